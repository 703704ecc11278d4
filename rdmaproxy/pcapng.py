"""Files that Wireshark and tshark read: pcapng (draft-ietf-opsawg-pcapng), with packets that begin with IP."""

from __future__ import annotations

from struct import Struct

SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
BYTE_ORDER = 0x1A2B3C4D
LENGTH_UNKNOWN = 0xFFFFFFFFFFFFFFFF
LINKTYPE_RAW = 101
"""IPv4 or IPv6, as the first four bits say."""
OPTION_TIME_RESOLUTION = 9
NANOSECONDS = 9
"""As a negative power of ten."""

_BLOCK = Struct("<II")
_TRAILER = Struct("<I")
_SECTION = Struct("<IHHQ")
_INTERFACE = Struct("<HHI")
_OPTION = Struct("<HHB3x")
_PACKET = Struct("<IIIII")


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = _BLOCK.size + len(body) + _TRAILER.size
    return _BLOCK.pack(kind, length) + body + _TRAILER.pack(length)


def beginning() -> bytes:
    """Of a file with one interface, whose times are nanoseconds."""
    section = _SECTION.pack(BYTE_ORDER, 1, 0, LENGTH_UNKNOWN)
    resolution = _OPTION.pack(OPTION_TIME_RESOLUTION, 1, NANOSECONDS)
    interface = _INTERFACE.pack(LINKTYPE_RAW, 0, 0) + resolution + bytes(4)
    return _block(SECTION_HEADER, section) + _block(INTERFACE_DESCRIPTION, interface)


def packet(time: int, data: bytes) -> bytes:
    """`time`: of day, in nanoseconds."""
    head = _PACKET.pack(0, time >> 32, time & 0xFFFFFFFF, len(data), len(data))
    return _block(ENHANCED_PACKET, head + data)
