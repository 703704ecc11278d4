"""What SMB Direct puts on the wire ([MS-SMBD] section 2.2).

Three messages, the buffer descriptor, and the private data of an iWARP connection. Everything is little-endian except
the private data. Here is syntax only; whether a value is acceptable is decided in `connection`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

Buffer = bytes | bytearray | memoryview

VERSION = 0x0100
"""The only version there is: 1.0."""
HEADER_SIZE = 20
"""Bytes of a data transfer header; an empty message is this and nothing else."""
DATA_OFFSET = 24
"""Where the payload of a data transfer message starts: the header and four bytes of padding."""
RECEIVE_SIZE_MIN = 128
"""Bytes; a smaller MaxReceiveSize is refused ([MS-SMBD] 3.1.5.6)."""
FRAGMENTED_SIZE_MIN = 131072
"""Bytes; the same for MaxFragmentedSize."""
RESPONSE_REQUESTED = 0x0001
"""SMB_DIRECT_RESPONSE_REQUESTED, the one flag of a data transfer message."""
STATUS_SUCCESS = 0
STATUS_NOT_SUPPORTED = 0xC00000BB

_REQUEST = struct.Struct("<HHHHLLL")
_RESPONSE = struct.Struct("<HHHHHHLLLLL")
_HEADER = struct.Struct("<HHHHLLL")
_DESCRIPTOR = struct.Struct("<QLL")
_PRIVATE_DATA_BIG = struct.Struct(">LL")
_PRIVATE_DATA_LITTLE = struct.Struct("<LL")
_PADDING = bytes(DATA_OFFSET - HEADER_SIZE)


class Malformed(ValueError):
    """A message of the peer cannot be parsed; the sentence says why."""


def _unpack(layout: struct.Struct, message: Buffer, name: str) -> tuple[int, ...]:
    view = memoryview(message)
    if len(view) < layout.size:
        raise Malformed(f"a {name} is shorter than {layout.size} bytes")
    return layout.unpack_from(view)


@dataclass(frozen=True, slots=True)
class NegotiateRequest:
    """[MS-SMBD] 2.2.1"""

    credits_requested: int
    preferred_send_size: int
    max_receive_size: int
    max_fragmented_size: int
    min_version: int = VERSION
    max_version: int = VERSION
    SIZE: ClassVar[int] = _REQUEST.size

    @classmethod
    def parse(cls, message: Buffer) -> Self:
        low, high, _, wanted, send, receive, fragmented = _unpack(
            _REQUEST, message, "Negotiate Request"
        )
        return cls(wanted, send, receive, fragmented, low, high)

    def pack(self) -> bytes:
        return _REQUEST.pack(
            self.min_version,
            self.max_version,
            0,
            self.credits_requested,
            self.preferred_send_size,
            self.max_receive_size,
            self.max_fragmented_size,
        )


@dataclass(frozen=True, slots=True)
class NegotiateResponse:
    """[MS-SMBD] 2.2.2"""

    credits_requested: int = 0
    credits_granted: int = 0
    status: int = STATUS_SUCCESS
    max_read_write_size: int = 0
    preferred_send_size: int = 0
    max_receive_size: int = 0
    max_fragmented_size: int = 0
    min_version: int = VERSION
    max_version: int = VERSION
    negotiated_version: int = VERSION
    SIZE: ClassVar[int] = _RESPONSE.size

    @classmethod
    def parse(cls, message: Buffer) -> Self:
        low, high, version, _, *values = _unpack(_RESPONSE, message, "Negotiate Response")
        wanted, granted, status, read_write, send, receive, fragmented = values
        return cls(
            wanted, granted, status, read_write, send, receive, fragmented, low, high, version
        )

    def pack(self) -> bytes:
        return _RESPONSE.pack(
            self.min_version,
            self.max_version,
            self.negotiated_version,
            0,
            self.credits_requested,
            self.credits_granted,
            self.status,
            self.max_read_write_size,
            self.preferred_send_size,
            self.max_receive_size,
            self.max_fragmented_size,
        )


@dataclass(frozen=True, slots=True)
class DataTransfer:
    """[MS-SMBD] 2.2.3. An empty message has no payload; what it says of remaining bytes means nothing."""

    credits_requested: int
    """A total: what the sender would like to hold."""
    credits_granted: int = 0
    """An increment: receives posted since the last message."""
    flags: int = 0
    remaining: int = 0
    """RemainingDataLength: bytes of the SMB2 message in later segments."""
    payload: Buffer = b""

    @classmethod
    def parse(cls, message: Buffer) -> Self:
        """The payload is a view of `message`."""
        view = memoryview(message)
        wanted, granted, flags, _, remaining, offset, length = _unpack(
            _HEADER, view, "data transfer message"
        )
        if wanted == 0:
            raise Malformed("a data transfer message requests no credits")
        if length == 0:
            return cls(wanted, granted, flags, remaining)
        if offset % 8 != 0:
            raise Malformed("a data transfer message has a DataOffset that is not a multiple of 8")
        if offset < HEADER_SIZE:
            raise Malformed("a data transfer message has a DataOffset inside its header")
        if offset + length > len(view):
            raise Malformed("a data transfer message has payload beyond its end")
        return cls(wanted, granted, flags, remaining, view[offset : offset + length])

    def pack(self) -> bytes:
        length = len(memoryview(self.payload))
        header = _HEADER.pack(
            self.credits_requested,
            self.credits_granted,
            self.flags,
            0,
            self.remaining,
            DATA_OFFSET if length else 0,
            length,
        )
        return b"".join((header, _PADDING, self.payload)) if length else header


@dataclass(frozen=True, slots=True)
class BufferDescriptor:
    """Where the peer's memory is: Buffer Descriptor V1, [MS-SMBD] 2.2.3.1."""

    offset: int
    """An address in the peer's registration, opaque to us."""
    token: int
    """Its steering tag (remote key), all 32 bits."""
    length: int
    """Bytes."""
    SIZE: ClassVar[int] = _DESCRIPTOR.size

    @classmethod
    def parse_all(cls, buffer: Buffer) -> list[Self]:
        """All descriptors of an array, as it stands in an SMB2 READ or WRITE request."""
        view = memoryview(buffer)
        if len(view) % cls.SIZE:
            raise Malformed(f"an array of descriptors of {len(view)} bytes, not a multiple of 16")
        return [cls(*values) for values in _DESCRIPTOR.iter_unpack(view)]

    def pack(self) -> bytes:
        return _DESCRIPTOR.pack(self.offset, self.token, self.length)


@dataclass(frozen=True, slots=True)
class PrivateData:
    """What goes with an iWARP connection: RDMA Reads answered (IRD) and asked for (ORD) at a time."""

    ird: int
    ord: int
    SIZE: ClassVar[int] = _PRIVATE_DATA_BIG.size

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """The specification says big-endian; Linux up to 6.x writes host order: both are read.

        Depths are at most 255. A number that is small only backwards was written in the order of an x86 machine; one
        hand wrote both numbers, so one of them decides.
        """
        big = _unpack(_PRIVATE_DATA_BIG, data, "connection's private data")
        little = _PRIVATE_DATA_LITTLE.unpack_from(memoryview(data))
        swapped = any(there > 255 >= here for there, here in zip(big, little, strict=True))
        return cls(*(little if swapped else big))

    def pack(self) -> bytes:
        return _PRIVATE_DATA_BIG.pack(self.ird, self.ord)
