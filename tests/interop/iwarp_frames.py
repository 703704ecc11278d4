"""A second, independent reader of iWARP streams: enough of MPA, DDP and RDMAP to follow a capture.

RFC 5044 section 4 (FPDU), RFC 5041 section 4 (DDP), RFC 5040 section 4 (RDMAP). No markers; the CRC
field is there but is not looked at (siw negotiates none).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MPA_REQUEST_KEY, MPA_REPLY_KEY = b"MPA ID Req Frame", b"MPA ID Rep Frame"
MPA_CONNECT = struct.Struct(">16sBBH")
ENHANCED = 0x10
"""RFC 6581 section 5: IRD and ORD stand in front of the private data."""
IRD_ORD_SIZE = 4
FPDU_LENGTH = struct.Struct(">H")
CRC_SIZE = 4
TAGGED, LAST = 0x80, 0x40
TAGGED_HEADER = struct.Struct(">BBIQ")
UNTAGGED_HEADER = struct.Struct(">BBIIII")
READ_REQUEST = struct.Struct(">IQIIQ")


class Opcode(IntEnum):
    """RFC 5040 section 4.2."""

    WRITE = 0
    READ_REQUEST = 1
    READ_RESPONSE = 2
    SEND = 3
    SEND_INVALIDATE = 4
    SEND_SOLICITED = 5
    SEND_SOLICITED_INVALIDATE = 6
    TERMINATE = 7


SENDS = (
    Opcode.SEND,
    Opcode.SEND_INVALIDATE,
    Opcode.SEND_SOLICITED,
    Opcode.SEND_SOLICITED_INVALIDATE,
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One DDP segment."""

    opcode: Opcode
    tagged: bool
    last: bool
    token: int
    """STag of a tagged segment, or the one to invalidate."""
    offset: int
    payload: memoryview
    place: int
    """Where the payload begins in the stream."""


def private_data(stream: bytes | bytearray) -> tuple[bytes, int]:
    """What MPA's request or reply carries for the consumer, and where the FPDUs begin."""
    key, flags, _, length = MPA_CONNECT.unpack_from(stream)
    assert key in (MPA_REQUEST_KEY, MPA_REPLY_KEY)
    begin, end = MPA_CONNECT.size, MPA_CONNECT.size + length
    if flags & ENHANCED:
        begin += IRD_ORD_SIZE
    return bytes(stream[begin:end]), end


def ddp_segments(stream: bytes | bytearray) -> Iterator[Segment]:
    """Every DDP segment of one direction; the stream must end with a whole one."""
    data = memoryview(stream)
    _, place = private_data(stream)
    while place < len(data):
        (length,) = FPDU_LENGTH.unpack_from(data, place)
        start, end = place + FPDU_LENGTH.size, place + FPDU_LENGTH.size + length
        assert end <= len(data), f"an FPDU of {length} bytes at {place} runs over the end"
        yield ddp_segment(data, start, end)
        place += (FPDU_LENGTH.size + length + 3) // 4 * 4 + CRC_SIZE


def ddp_segment(data: memoryview, start: int, end: int) -> Segment:
    control, rdmap = data[start], data[start + 1]
    assert control & 3 == 1, "DDP version 1"
    assert rdmap >> 6 == 1, "RDMAP version 1"
    tagged, last, opcode = bool(control & TAGGED), bool(control & LAST), Opcode(rdmap & 15)
    if tagged:
        _, _, token, offset = TAGGED_HEADER.unpack_from(data, start)
        begin = start + TAGGED_HEADER.size
    else:
        _, _, token, _, _, offset = UNTAGGED_HEADER.unpack_from(data, start)
        begin = start + UNTAGGED_HEADER.size
    return Segment(opcode, tagged, last, token, offset, data[begin:end], begin)


def sends(stream: bytes | bytearray) -> Iterator[bytes]:
    """Every whole Send of one direction: SMB Direct's messages."""
    pieces: list[bytes] = []
    for segment in ddp_segments(stream):
        if segment.opcode in SENDS:
            assert segment.offset == sum(map(len, pieces))
            pieces.append(bytes(segment.payload))
            if segment.last:
                yield b"".join(pieces)
                pieces.clear()
    assert not pieces, "the last Send has no end"
