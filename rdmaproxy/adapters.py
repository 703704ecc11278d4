"""The RDMA adapters of this host: device, port, network interface, GIDs, transport, state, speed and limits.

What the kernel shows in sysfs and by its RDMA netlink, which need no library; limits come by pyverbs where it is
installed. An entry is one port of one device.
"""

from __future__ import annotations

import importlib
import ipaddress
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rdmaproxy import netlink

ADAPTERS = Path("/sys/class/infiniband")
INTERFACES = Path("/sys/class/net")
GIDS_MAX = 64
"""GIDs looked at per port: an adapter with many virtual functions has thousands of empty places."""

LIMITS = (
    "max_qp",
    "max_qp_wr",
    "max_cqe",
    "max_sge",
    "max_sge_rd",
    "max_qp_rd_atom",
    "max_qp_init_rd_atom",
    "max_mr",
    "max_mr_size",
    "max_mw",
)
"""Attributes of ibv_query_device(3) that decide what a connection can do."""

NETLINK_RDMA = 20
NLDEV = 5 << 10
CMD_GET, CMD_PORT_GET = 1, 5
ATTR_DEV_INDEX, ATTR_DEV_NAME, ATTR_PORT_INDEX, ATTR_NDEV_NAME = 1, 2, 3, 51
"""Of rdma/rdma_netlink.h."""


@dataclass(frozen=True, slots=True)
class Gid:
    """A port's address in RDMA's own format; RoCE has one for each IP address of its interface."""

    index: int
    address: str
    """As an IP address."""
    kind: str
    """"IB/RoCE v1" or "RoCE v2"; empty where the driver does not say."""
    interface: str


@dataclass(frozen=True, slots=True)
class Adapter:
    device: str
    port: int
    transport: str
    """"InfiniBand", "RoCE" or "iWARP"."""
    state: str
    """"ACTIVE" when it can be used."""
    speed: int
    """Bits per second, 0 if unknown."""
    interface: str
    """The network interface it belongs to; empty if the kernel does not say."""
    gids: tuple[Gid, ...]

    @property
    def smb_direct_port(self) -> int:
        """[MS-SMBD] 1.9: on iWARP, TCP's port 445 is taken by SMB itself."""
        return 5445 if self.transport == "iWARP" else 445


def adapters() -> list[Adapter]:
    """All of them, in the order of their names."""
    interfaces = dict(_interfaces_by_netlink())
    return [
        _adapter(device, port, interfaces)
        for device in _folders(ADAPTERS)
        for port in _folders(device / "ports")
    ]


def behind(address: str, interface: str, known: list[Adapter]) -> Adapter | None:
    """The adapter that connections to this address of this interface come through, if there is one.

    RoCE: the kernel keeps a GID for each address, also those of VLANs and bonds above the adapter's interface; an
    address without one (of a bridge) has no RDMA. iWARP and InfiniBand: the adapter's interface, or one above it.
    """
    below = {interface, *_lower(interface)}
    for adapter in known:
        gids = {gid.address for gid in adapter.gids}
        if address in gids or (adapter.transport != "RoCE" and adapter.interface in below):
            return adapter
    return None


def limits(device: str) -> dict[str, int]:
    """What the device's attributes allow; empty without pyverbs, or if it may not be opened."""
    try:
        verbs = importlib.import_module("pyverbs.device")
        with verbs.Context(name=device) as context:
            attributes = context.query_device()
            return {name: int(getattr(attributes, name)) for name in LIMITS}
    except (ImportError, OSError, RuntimeError, AttributeError):
        return {}


def _adapter(device: Path, port: Path, interfaces: dict[tuple[str, int], str]) -> Adapter:
    gids = tuple(_gids(port))
    number = int(port.name)
    interface = interfaces.get((device.name, number), "")
    if not interface:
        beside = [gid.interface for gid in gids if gid.interface]
        beside += [folder.name for folder in _folders(device / "device" / "net")]
        interface = beside[0] if beside else ""
    return Adapter(
        device.name,
        number,
        _transport(device, port),
        _text(port / "state").rpartition(" ")[2],
        _speed(_text(port / "rate")),
        interface,
        gids,
    )


def _transport(device: Path, port: Path) -> str:
    if _text(device / "node_type").startswith("4"):  # RNIC
        return "iWARP"
    return "RoCE" if _text(port / "link_layer") == "Ethernet" else "InfiniBand"


def _speed(rate: str) -> int:
    """Of "100 Gb/sec (4X EDR)"."""
    match = re.match(r"([\d.]+) Gb/sec", rate)
    return int(float(match[1]) * 1e9) if match else 0


def _gids(port: Path) -> Iterator[Gid]:
    for index in range(GIDS_MAX):
        text = _text(port / "gids" / str(index))
        if not text:
            return
        gid = ipaddress.IPv6Address(text)
        if int(gid) & ((1 << 64) - 1) or gid.ipv4_mapped:
            kind = _text(port / "gid_attrs" / "types" / str(index))
            interface = _text(port / "gid_attrs" / "ndevs" / str(index))
            yield Gid(index, str(gid.ipv4_mapped or gid), kind, interface)


def _lower(interface: str) -> Iterator[str]:
    """The interfaces that a VLAN, bond or bridge stands on."""
    for entry in sorted((INTERFACES / interface).glob("lower_*")):
        name = entry.name.removeprefix("lower_")
        yield name
        yield from _lower(name)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    """A file of sysfs; empty if there is none, or no value in it."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


# -- RDMA netlink: which interface a port belongs to, as `rdma link` shows it


def _interfaces_by_netlink() -> Iterator[tuple[tuple[str, int], str]]:
    try:
        with netlink.connect(NETLINK_RDMA) as sock:
            for device in list(map(netlink.attributes, netlink.dump(sock, NLDEV | CMD_GET))):
                yield from _ports(sock, device)
    except OSError:
        return  # no RDMA in this kernel


def _ports(sock: socket.socket, device: dict[int, bytes]) -> Iterator[tuple[tuple[str, int], str]]:
    index, name = device.get(ATTR_DEV_INDEX), device.get(ATTR_DEV_NAME)
    if index is None or name is None:
        return
    body = netlink.attribute(ATTR_DEV_INDEX, index)
    for message in netlink.dump(sock, NLDEV | CMD_PORT_GET, body):
        port = netlink.attributes(message)
        number, interface = port.get(ATTR_PORT_INDEX), port.get(ATTR_NDEV_NAME)
        if number is not None and interface is not None:
            yield (_string(name), int.from_bytes(number, sys.byteorder)), _string(interface)


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")
