"""The host's network interfaces: what clients are offered for further channels, and where we listen.

Addresses come from the kernel by rtnetlink, link speeds from sysfs; `interfaces` of the configuration restricts and
overrides, in Samba's syntax: `"eth0;speed=10000000000,capability=RSS,capability=RDMA,if_index=2"`.
"""

from __future__ import annotations

import fnmatch
import logging
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from pathlib import Path

from smbserver.wire.interface_info import InterfaceCapability, NetworkInterfaceInfo

log = logging.getLogger(__name__)

DEFAULT_SPEED = 1_000_000_000
"""Bits per second where the driver does not say; what ksmbd and clients assume."""

LOOPBACK_SPEED = 10_000_000_000
"""Bits per second of the loopback interface, which has none."""

_RTM_GETADDR, _RTM_NEWADDR, _NLMSG_DONE, _NLMSG_ERROR = 22, 20, 3, 2
_NLM_F_REQUEST_DUMP = 0x0301
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_DUMP_TIMEOUT = 2.0
_RECEIVE_SIZE = 65536


@dataclass(frozen=True, slots=True)
class Address:
    """One address of one interface."""

    interface: str
    if_index: int
    address: IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class _Rule:
    """One member of `interfaces`."""

    pattern: str
    speed: int = 0
    capability: int | None = None
    if_index: int = 0

    def matches(self, one: Address) -> bool:
        if fnmatch.fnmatchcase(one.interface, self.pattern):
            return True
        try:
            return one.address in ip_interface(self.pattern).network
        except ValueError:
            return False


def addresses() -> list[Address]:
    """Every address that the host has now, except link-local ones."""
    found = []
    for index, raw in _dump():
        address = ip_address(raw)
        if address.is_link_local:
            continue
        try:
            found.append(Address(socket.if_indextoname(index), index, address))
        except OSError:
            continue  # it went away meanwhile
    return found


def selected(known: Iterable[Address], members: Iterable[str]) -> list[Address]:
    """Those that `interfaces` names; all if it is empty."""
    rules = _rules(members)
    return [one for one in known if not rules or any(rule.matches(one) for rule in rules)]


def offered(
    known: Iterable[Address], members: Iterable[str], rdma_addresses: Iterable[str]
) -> list[NetworkInterfaceInfo]:
    """Each address once for TCP and, where the proxy listens, once more for RDMA: clients take either kind."""
    rules = _rules(members)
    listening = [ip_address(one.partition("%")[0]) for one in rdma_addresses]
    entries = []
    for one in known:
        rule = next((rule for rule in rules if rule.matches(one)), None)
        if rules and rule is None:
            continue
        rule = rule or _Rule("")
        index = rule.if_index or one.if_index
        speed = rule.speed or link_speed(one.interface)
        rss, rdma = InterfaceCapability.RSS_CAPABLE, InterfaceCapability.RDMA_CAPABLE
        plain = rss if rule.capability is None else rule.capability & ~rdma
        entries.append(NetworkInterfaceInfo(index, one.address, plain, speed))
        has_rdma = any(_listens(where, one.address) for where in listening)
        if rule.capability is not None and rule.capability & rdma and not has_rdma:
            log.warning("interfaces: %s is said to have RDMA, but no proxy listens there", one)
        if has_rdma and (rule.capability is None or rule.capability & rdma):
            entries.append(NetworkInterfaceInfo(index, one.address, rss | rdma, speed))
    return entries


def link_speed(interface: str, sysfs: Path = Path("/sys/class/net")) -> int:
    """Bits per second."""
    if interface == "lo":
        return LOOPBACK_SPEED
    try:
        megabits = int((sysfs / interface / "speed").read_text())
    except (OSError, ValueError):
        return DEFAULT_SPEED
    return megabits * 1_000_000 if megabits > 0 else DEFAULT_SPEED


def _listens(where: IPv4Address | IPv6Address, address: IPv4Address | IPv6Address) -> bool:
    return where.version == address.version and (where.is_unspecified or where == address)


def _rules(members: Iterable[str]) -> list[_Rule]:
    return [_rule(member) for member in members]


def _rule(member: str) -> _Rule:
    pattern, _, options = member.partition(";")
    speed = if_index = 0
    capability: int | None = None
    for option in filter(None, options.split(",")):
        name, _, value = option.strip().partition("=")
        if name == "speed" and value.isdigit():
            speed = int(value)
        elif name == "if_index" and value.isdigit():
            if_index = int(value)
        elif name == "capability" and value.upper() in ("RSS", "RDMA"):
            capability = (capability or 0) | InterfaceCapability[f"{value.upper()}_CAPABLE"]
        else:
            log.warning("interfaces: %s: `%s` is not understood", member, option)
    return _Rule(pattern, speed, capability, if_index)


def _dump() -> Iterator[tuple[int, bytes]]:
    """Interface index and address of each answer to RTM_GETADDR (rtnetlink(7))."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_DUMP_TIMEOUT)
        body = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        header = _HEADER.pack(_HEADER.size + len(body), _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0)
        sock.send(header + body)
        while True:
            packet = sock.recv(_RECEIVE_SIZE)
            offset = 0
            while offset + _HEADER.size <= len(packet):
                length, kind, _, _, _ = _HEADER.unpack_from(packet, offset)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
                    return
                if kind == _RTM_NEWADDR:
                    yield from _parse(packet[offset + _HEADER.size : offset + length])
                offset += (length + 3) & ~3


def _parse(message: bytes) -> Iterator[tuple[int, bytes]]:
    _, _, _, _, index = _IFADDRMSG.unpack_from(message)
    attributes: dict[int, bytes] = {}
    offset = _IFADDRMSG.size
    while offset + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if length < _ATTRIBUTE.size:
            break
        attributes[kind] = message[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    # IFA_LOCAL is our end of a point-to-point link, IFA_ADDRESS the other's.
    raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if raw:
        yield index, raw
