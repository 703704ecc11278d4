"""READ ([MS-SMB2] 2.2.19, 2.2.20): inline, or placed by RDMA Write into the client's buffers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct

from smbserver.wire.bounds import HEADER_SIZE, Buffer, Malformed, slice_at
from smbserver.wire.file_id import FileId
from smbserver.wire.rdma_channel import RdmaChannel, channel_info_at

DATA_OFFSET = 80
"""DataOffset of every response: header and fixed part."""

_REQUEST = Struct("<HBBIQQQIIIHH")
_RESPONSE = Struct("<HBBIII")
_REQUEST_END = HEADER_SIZE + _REQUEST.size


class ReadFlags(IntFlag):
    """Flags of the request."""

    READ_UNBUFFERED = 0x01
    REQUEST_COMPRESSED = 0x02


class ReadResponseFlags(IntFlag):
    """Flags of the response in dialect 3.1.1."""

    RDMA_TRANSFORM = 0x00000001


@dataclass(slots=True)
class ReadRequest:
    """SMB2 READ Request ([MS-SMB2] 2.2.19). Not frozen, for the same reason as `Header`."""

    file_id: FileId
    offset: int
    length: int
    minimum_count: int = 0
    channel: int = RdmaChannel.NONE
    remaining_bytes: int = 0
    channel_info: Buffer = b""
    """Buffer Descriptor V1 array, a multiple of 16 bytes; empty if `channel` is NONE."""
    flags: int = 0
    padding: int = DATA_OFFSET

    @classmethod
    def parse(cls, message: Buffer) -> ReadRequest:
        if len(message) < _REQUEST_END:
            raise Malformed(f"READ request of {len(message)} bytes, {_REQUEST_END} are needed")
        (
            size,
            padding,
            flags,
            length,
            offset,
            persistent,
            volatile,
            minimum,
            channel,
            remaining,
            info_offset,
            info_length,
        ) = _REQUEST.unpack_from(message, HEADER_SIZE)
        if size != 49:
            raise Malformed(f"READ request has StructureSize {size} instead of 49")
        info: Buffer = b""
        if channel:
            info = channel_info_at(message, channel, info_offset, info_length, _REQUEST_END)
        return cls(
            FileId(persistent, volatile),
            offset,
            length,
            minimum,
            channel,
            remaining,
            info,
            flags,
            padding,
        )

    def pack(self) -> bytes:
        # StructureSize 49 counts one byte of buffer, which is there even if nothing is in it.
        info = bytes(self.channel_info)
        fixed = _REQUEST.pack(
            49,
            self.padding,
            self.flags,
            self.length,
            self.offset,
            *self.file_id,
            self.minimum_count,
            self.channel,
            self.remaining_bytes,
            _REQUEST_END if info else 0,
            len(info),
        )
        return fixed + (info or b"\0")


@dataclass(slots=True)
class ReadResponse:
    """SMB2 READ Response ([MS-SMB2] 2.2.20). Not frozen, for the same reason as `Header`."""

    data: Buffer = b""
    data_remaining: int = 0
    """Bytes placed by RDMA Write; then `data` is empty and the message has exactly 80 bytes."""
    flags: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> ReadResponse:
        if len(message) < DATA_OFFSET:
            raise Malformed(f"READ response of {len(message)} bytes, {DATA_OFFSET} are needed")
        size, offset, _, length, remaining, flags = _RESPONSE.unpack_from(message, HEADER_SIZE)
        if size != 17:
            raise Malformed(f"READ response has StructureSize {size} instead of 17")
        return cls(slice_at(message, offset, length, DATA_OFFSET, "READ data"), remaining, flags)

    def pack(self) -> bytes:
        return self.pack_fixed() + bytes(self.data)

    def pack_fixed(self) -> bytes:
        """The 16 bytes that stand before the data, for those who send the data without copying."""
        return _RESPONSE.pack(17, DATA_OFFSET, 0, len(self.data), self.data_remaining, self.flags)


def data_length(begun: Buffer) -> int:
    """DataLength of a READ response of which DATA_OFFSET bytes are there; -1 where its data begins elsewhere."""
    _, offset, _, length, _, _ = _RESPONSE.unpack_from(begun, HEADER_SIZE)
    return length if offset == DATA_OFFSET else -1
