"""Captures: reads the TCP streams of a pcap file, and writes one from recorded streams.

Only what the tests need: the classic format (libpcap 2.4), Ethernet, IPv4, TCP.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

GLOBAL_HEADER = struct.Struct("<IHHiIII")
RECORD_HEADER = struct.Struct("<IIII")
MAGIC_MICROSECONDS, MAGIC_NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
LINK_ETHERNET = 1
ETHERNET = struct.Struct(">6s6sH")
IPV4 = struct.Struct(">BBHHHBBH4s4s")
TCP = struct.Struct(">HHIIBBHHH")
TYPE_IPV4 = 0x0800
PROTOCOL_TCP = 6
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
SEGMENT_MAX = 60_000
"""Payload of one synthetic packet: an IPv4 packet ends at 65535 bytes."""

End = tuple[str, int]
"""Address and port."""


def address(packed: bytes) -> str:
    return ".".join(map(str, packed))


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment, and where its payload begins in the file."""

    source: End
    destination: End
    sequence: int
    flags: int
    payload: bytes
    place: int


def segments(data: bytes) -> Iterable[Segment]:
    """Every TCP segment of a capture, in order of time."""
    magic = GLOBAL_HEADER.unpack_from(data)[0]
    assert magic in (MAGIC_MICROSECONDS, MAGIC_NANOSECONDS), "not a little-endian pcap file"
    place = GLOBAL_HEADER.size
    while place < len(data):
        _, _, captured, _ = RECORD_HEADER.unpack_from(data, place)
        place += RECORD_HEADER.size
        segment = parse_segment(data, place, captured)
        if segment is not None:
            yield segment
        place += captured


def parse_segment(data: bytes, start: int, length: int) -> Segment | None:
    if ETHERNET.unpack_from(data, start)[2] != TYPE_IPV4:
        return None
    ip = start + ETHERNET.size
    first, _, total, _, _, _, protocol, _, source, destination = IPV4.unpack_from(data, ip)
    if protocol != PROTOCOL_TCP:
        return None
    tcp = ip + (first & 15) * 4
    source_port, destination_port, sequence, _, offset, flags, *_ = TCP.unpack_from(data, tcp)
    payload = tcp + (offset >> 4) * 4
    end = ip + total if total else start + length
    return Segment(
        (address(source), source_port),
        (address(destination), destination_port),
        sequence,
        flags,
        data[payload:end],
        payload,
    )


@dataclass(slots=True)
class Stream:
    """One direction of a connection."""

    source: End
    destination: End
    data: bytearray = field(default_factory=bytearray)


def streams(path: Path) -> list[Stream]:
    """Both directions of the capture's one connection; the connecting end's comes first."""
    opened = gzip.decompress if path.suffix == ".gz" else bytes
    found: dict[End, Stream] = {}
    beginnings: dict[End, int] = {}
    for segment in segments(opened(path.read_bytes())):
        if segment.flags & SYN:
            found[segment.source] = Stream(segment.source, segment.destination)
            beginnings[segment.source] = segment.sequence + 1
            continue
        stream = found[segment.source]
        at = (segment.sequence - beginnings[segment.source]) % (1 << 32)
        if segment.payload and at < 1 << 31:
            stream.data[at : at + len(segment.payload)] = segment.payload
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that a relay saw, and who sent them."""

    from_client: bool
    data: bytes


def write(path: Path, server_port: int, pieces: Iterable[Piece]) -> None:
    """A capture of one connection on loopback, with headers made up around the recorded bytes."""
    client, server = ("127.0.0.1", 50_000), ("127.0.0.1", server_port)
    sent = {True: 1000, False: 2000}
    packets = [
        packet(client, server, sent[True], 0, SYN),
        packet(server, client, sent[False], sent[True] + 1, SYN | ACK),
        packet(client, server, sent[True] + 1, sent[False] + 1, ACK),
    ]
    sent = {side: number + 1 for side, number in sent.items()}
    for piece in pieces:
        ends = (client, server) if piece.from_client else (server, client)
        for start in range(0, len(piece.data), SEGMENT_MAX):
            payload = piece.data[start : start + SEGMENT_MAX]
            acknowledged = sent[not piece.from_client]
            packets.append(packet(*ends, sent[piece.from_client], acknowledged, PSH | ACK, payload))
            sent[piece.from_client] += len(payload)
    packets.append(packet(client, server, sent[True], sent[False], FIN | ACK))
    with path.open("wb") as file:
        file.write(GLOBAL_HEADER.pack(MAGIC_MICROSECONDS, 2, 4, 0, 0, 1 << 18, LINK_ETHERNET))
        for number, data in enumerate(packets):
            file.write(RECORD_HEADER.pack(number // 1000, number % 1000 * 1000, *[len(data)] * 2))
            file.write(data)


def packet(
    source: End,
    destination: End,
    sequence: int,
    acknowledged: int,
    flags: int,
    payload: bytes = b"",
) -> bytes:
    """Ethernet, IPv4 and TCP around the payload; checksums are left zero, as with offloading."""
    ends = [bytes(map(int, end[0].split("."))) for end in (source, destination)]
    total = IPV4.size + TCP.size + len(payload)
    return b"".join(
        (
            ETHERNET.pack(b"\0" * 6, b"\0" * 6, TYPE_IPV4),
            IPV4.pack(0x45, 0, total, 0, 0x4000, 64, PROTOCOL_TCP, 0, *ends),
            TCP.pack(
                source[1],
                destination[1],
                sequence % (1 << 32),
                acknowledged % (1 << 32),
                TCP.size // 4 << 4,
                flags,
                65_535,
                0,
                0,
            ),
            payload,
        )
    )
