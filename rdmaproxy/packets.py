"""SMB Direct messages of any fabric as the packets of an iWARP connection: MPA, DDP and RDMAP over TCP and IP.

What was captured (csrc/capture.h) are messages; the packets around them are made here, so that Wireshark knows what
it sees. Each connection begins with MPA's request and reply; each message is one FPDU in one packet. Payload that RDMA
placed is not there, nor are acknowledgments of their own, or checksums.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

from rdmaproxy import pcapng

RECORD = Struct("=QQIIHHHH16s16s")
"""struct capture_record."""
SENT, INVALIDATES = 1, 2
NEGOTIATE_REQUEST_SIZE = 20
"""[MS-SMBD] 2.2.1: who sends it has made the connection."""

_IPV4 = Struct(">BBHHHBBH4s4s")
_IPV6 = Struct(">IHBB16s16s")
_TCP = Struct(">HHIIBBHHH")
_ACKNOWLEDGES_AND_PUSHES = 0x18
_WINDOW = 0xFFFF
_HOPS = 64
_MPA = Struct(">16sBBH")
_MPA_REQUEST, _MPA_REPLY = b"MPA ID Req Frame", b"MPA ID Rep Frame"
_UNTAGGED = Struct(">BBIIII")
_LAST, _DDP_VERSION, _RDMAP_VERSION = 0x40, 0x01, 0x40
_SEND, _SEND_INVALIDATE = 3, 4
_CRC_SIZE = 4


@dataclass(slots=True)
class End:
    """One end of a connection."""

    family: int
    address: bytes
    port: int
    sequence: int = 1
    """Of its next byte."""
    msn: int = 0
    """Of its last message."""


def _ip_packet(source: End, target: End, payload: bytes) -> bytes:
    header = (source.port, target.port, source.sequence, target.sequence)
    tcp = _TCP.pack(*header, 5 << 4, _ACKNOWLEDGES_AND_PUSHES, _WINDOW, 0, 0) + payload
    source.sequence = (source.sequence + len(payload)) & 0xFFFFFFFF
    if source.family == socket.AF_INET6:
        fixed = (6 << 28, len(tcp), socket.IPPROTO_TCP, _HOPS)
        return _IPV6.pack(*fixed, source.address, target.address) + tcp
    length = _IPV4.size + len(tcp)
    addresses = source.address[:4], target.address[:4]
    return _IPV4.pack(0x45, 0, length, 0, 0, _HOPS, socket.IPPROTO_TCP, 0, *addresses) + tcp


def _fpdu(message: bytes, msn: int, invalidated: int | None) -> bytes:
    opcode = _SEND if invalidated is None else _SEND_INVALIDATE
    control = _LAST | _DDP_VERSION, _RDMAP_VERSION | opcode
    ulpdu = _UNTAGGED.pack(*control, invalidated or 0, 0, msn, 0) + message
    framed = len(ulpdu).to_bytes(2, "big") + ulpdu
    return framed + bytes(-len(framed) % 4 + _CRC_SIZE)


@dataclass(slots=True)
class Packets:
    """Makes a file's bytes out of records, for all connections together."""

    _connections: dict[tuple[int, ...], tuple[End, End]] = field(default_factory=dict)
    """The end on this host, and the peer's."""

    def of(self, records: bytes) -> Iterator[bytes]:
        place = 0
        while place < len(records):
            time, flow, length, token, flags, *rest = RECORD.unpack_from(records, place)
            place += RECORD.size
            message = records[place : place + length]
            place += length
            family, local_port, remote_port, local, remote = rest
            key = flow, local_port, remote_port
            if key not in self._connections:
                made = End(family, local, local_port), End(family, remote, remote_port)
                self._connections[key] = made
                yield from self._begin(time, made, message, sent=bool(flags & SENT))
            here, there = self._connections[key]
            source, target = (here, there) if flags & SENT else (there, here)
            source.msn += 1
            fpdu = _fpdu(message, source.msn, token if flags & INVALIDATES else None)
            yield pcapng.packet(time, _ip_packet(source, target, fpdu))

    @staticmethod
    def _begin(time: int, ends: tuple[End, End], first: bytes, *, sent: bool) -> Iterator[bytes]:
        """MPA's request of who made the connection, as far as that can be told, and its reply."""
        here, there = ends
        if len(first) == NEGOTIATE_REQUEST_SIZE:
            maker, other = (here, there) if sent else (there, here)
        else:  # it began earlier; ports that clients are given are high ones
            maker, other = (here, there) if here.port > there.port else (there, here)
        for key, source, target in (_MPA_REQUEST, maker, other), (_MPA_REPLY, other, maker):
            yield pcapng.packet(time, _ip_packet(source, target, _MPA.pack(key, 0, 1, 0)))
