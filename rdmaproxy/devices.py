"""What can be listened on: the fabrics of this host, their devices, and the host's addresses."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from rdmaproxy import netlink
from rdmaproxy.adapters import ADAPTERS, INTERFACES, Adapter, adapters, behind

VERBS_PORT = 445
"""SMB Direct over InfiniBand and RoCE."""
IWARP_PORT = 5445
"""SMB Direct over iWARP ([MS-SMBD] 1.9): TCP port 445 is taken by SMB itself."""
RTM_GETADDR, IFA_ADDRESS, IFA_LOCAL = 22, 1, 2
IFADDRMSG = struct.Struct("=BBBBI")
IFF_UP = 1
SIOCGIFADDR = 0x8915
SIOCGIFNETMASK = 0x891B
ADDRESSES_MAX = 64
"""Addresses reported of one host: a status must fit into a packet."""


@dataclass(frozen=True, slots=True)
class Fabric:
    name: str
    port: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the host that a listener may be bound to."""

    interface: str
    index: int
    address: str
    prefix: int
    mtu: int
    speed: int
    """Bits per second, 0 where the interface does not tell (loopback, bridges)."""


def fabrics(wanted: str = "auto") -> tuple[Fabric, ...]:
    """What `fabric = auto | verbs | iwarp` comes to on this host.

    User-space iWARP works everywhere; its one device is all of the host's TCP. Verbs appears once for each port number
    of its adapters' transports; also without an adapter, where the kernel is ready for one or verbs is asked for.
    """
    found = []
    if wanted != "iwarp":
        known = adapters()
        for port in sorted({one.smb_direct_port for one in known}):
            names = dict.fromkeys(one.device for one in known if one.smb_direct_port == port)
            found.append(Fabric("verbs", port, tuple(names)))
        if not found and (wanted == "verbs" or ADAPTERS.is_dir()):
            found.append(Fabric("verbs", VERBS_PORT, ()))
    if wanted != "verbs":
        found.append(Fabric("iwarp", IWARP_PORT, ("iwarp",)))
    return tuple(found)


def fabric_for(address: str, port: int) -> str:
    """What `auto` comes to for a listener on an address, or a connection to one.

    Verbs where an adapter is behind the address, or behind the one we would use towards it, and the port number is not
    that of the other kind of SMB Direct.
    """
    source = _source(address)
    found = [one for one in rdma_adapters() if one[0].address == source]
    other = {VERBS_PORT, IWARP_PORT} - {one[1].smb_direct_port for one in found}
    return "verbs" if found and port not in other else "iwarp"


def reached(fabric: str, address: str) -> list[str]:
    """The addresses at which a listener is reached: 0.0.0.0 and :: on verbs are those that an adapter is behind."""
    bound = ipaddress.ip_address(address)
    if fabric != "verbs" or not bound.is_unspecified:
        return [address]
    found = [one.address for one, _ in rdma_adapters()]
    return [one for one in found if ipaddress.ip_address(one).version == bound.version]


def _source(address: str) -> str:
    """Our own address towards another; UDP needs no packet for it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, IWARP_PORT))
            return str(sock.getsockname()[0])
    except OSError:
        return address


def rdma_adapters() -> list[tuple[Address, Adapter]]:
    """The host's addresses that an adapter is behind, each with it."""
    known = adapters()
    if not known:
        return []
    pairs = [(one, behind(one.address, one.interface, known)) for one in addresses()]
    return [(one, adapter) for one, adapter in pairs if adapter is not None]


def addresses() -> list[Address]:
    """The host's addresses on interfaces that are up, at most ADDRESSES_MAX."""
    try:
        found = list(_addresses_by_netlink())
    except OSError:
        found = list(_addresses_by_sysfs())
    return found[:ADDRESSES_MAX]


def _addresses_by_netlink() -> Iterator[Address]:
    with netlink.connect(socket.NETLINK_ROUTE) as sock:
        for message in netlink.dump(sock, RTM_GETADDR, IFADDRMSG.pack(0, 0, 0, 0, 0)):
            _, prefix, _, _, index = IFADDRMSG.unpack_from(message)
            found = netlink.attributes(message[IFADDRMSG.size :])
            # IFA_LOCAL is our end of a point-to-point link, IFA_ADDRESS the other's.
            raw = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
            try:
                name = socket.if_indextoname(index)
            except OSError:
                continue  # it went away meanwhile
            if raw is None or not _is_up(name):
                continue
            address = ipaddress.ip_address(raw)
            if not address.is_link_local:
                mtu = _number(name, "mtu")
                yield Address(name, index, str(address), prefix, mtu, _speed(name))


def _is_up(interface: str) -> bool:
    try:
        with open(os.path.join(INTERFACES, interface, "flags"), encoding="ascii") as file:
            return bool(int(file.read(), 16) & IFF_UP)
    except (OSError, ValueError):
        return False


def _addresses_by_sysfs() -> Iterator[Address]:
    """Without netlink: IPv4 by ioctl (netdevice(7)), IPv6 from /proc."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for index, name in socket.if_nameindex():
            try:
                request = struct.pack("256s", name.encode())
                address = socket.inet_ntoa(fcntl.ioctl(sock, SIOCGIFADDR, request)[20:24])
                mask = fcntl.ioctl(sock, SIOCGIFNETMASK, request)[20:24]
            except OSError:
                continue  # no IPv4 address
            prefix = int.from_bytes(mask, "big").bit_count()
            yield Address(name, index, address, prefix, _number(name, "mtu"), _speed(name))
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        digits, number, length, _, _, name = line.split()
        wide = ipaddress.IPv6Address(bytes.fromhex(digits))
        if not wide.is_link_local:
            mtu = _number(name, "mtu")
            yield Address(name, int(number, 16), str(wide), int(length, 16), mtu, _speed(name))


def _speed(interface: str) -> int:
    """Bits per second; /sys says megabits."""
    return max(0, _number(interface, "speed")) * 1_000_000


def _number(interface: str, attribute: str) -> int:
    try:
        with open(os.path.join("/sys/class/net", interface, attribute), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
