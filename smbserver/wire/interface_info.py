"""The server's network interfaces, for further channels ([MS-SMB2] 2.2.32.5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from smbserver.wire.bounds import Buffer
from smbserver.wire.information import join_entries, split_entries

SIZE = 152
"""Bytes of one NETWORK_INTERFACE_INFO."""

MAX_INTERFACES = 1024
"""Entries that a client reads; a bound keeps a hostile list short."""

_INET = 0x0002
_INET6 = 0x0017
_ENTRY = Struct("<IIIIQ128s")
_SOCKADDR_IN_OFFSET = 4
_SOCKADDR_IN6_OFFSET = 8


class InterfaceCapability(IntFlag):
    """Capability of NETWORK_INTERFACE_INFO."""

    RSS_CAPABLE = 0x00000001
    RDMA_CAPABLE = 0x00000002


@dataclass(frozen=True, slots=True)
class NetworkInterfaceInfo:
    """NETWORK_INTERFACE_INFO ([MS-SMB2] 2.2.32.5): one address of one interface."""

    if_index: int
    address: IPv4Address | IPv6Address
    capability: int = 0
    link_speed: int = 1_000_000_000
    """Bits per second."""

    @property
    def rdma_capable(self) -> bool:
        return bool(self.capability & InterfaceCapability.RDMA_CAPABLE)

    @classmethod
    def parse_all(cls, buffer: Buffer) -> list[NetworkInterfaceInfo]:
        """The entries whose address family is known; others are skipped, as the clients do."""
        interfaces: list[NetworkInterfaceInfo] = []
        for entry in split_entries(buffer, SIZE, "NETWORK_INTERFACE_INFO"):
            _, index, capability, _, speed, storage = _ENTRY.unpack_from(entry)
            address = _parse_address(storage)
            if address is not None:
                interfaces.append(cls(index, address, capability, speed))
            if len(interfaces) == MAX_INTERFACES:
                break
        return interfaces

    @classmethod
    def pack_all(cls, interfaces: Iterable[NetworkInterfaceInfo]) -> bytes:
        return join_entries(interface.pack() for interface in interfaces)

    def pack(self) -> bytes:
        storage = _pack_address(self.address)
        return _ENTRY.pack(0, self.if_index, self.capability, 0, self.link_speed, storage)


def _parse_address(storage: bytes) -> IPv4Address | IPv6Address | None:
    """SOCKADDR_STORAGE ([MS-SMB2] 2.2.32.5.1)."""
    family = int.from_bytes(storage[:2], "little")
    if family == _INET:
        return IPv4Address(storage[_SOCKADDR_IN_OFFSET : _SOCKADDR_IN_OFFSET + 4])
    if family == _INET6:
        return IPv6Address(storage[_SOCKADDR_IN6_OFFSET : _SOCKADDR_IN6_OFFSET + 16])
    return None


def _pack_address(address: IPv4Address | IPv6Address) -> bytes:
    if address.version == 4:
        return (_INET.to_bytes(2, "little") + bytes(2) + address.packed).ljust(128, b"\0")
    return (_INET6.to_bytes(2, "little") + bytes(6) + address.packed).ljust(128, b"\0")
