"""WRITE ([MS-SMB2] 2.2.21, 2.2.22): inline, or fetched by RDMA Read from the client's buffers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct

from smbserver.wire.bounds import HEADER_SIZE, Buffer, Malformed, slice_at, unpack_body
from smbserver.wire.file_id import FileId
from smbserver.wire.rdma_channel import RdmaChannel, channel_info_at

_REQUEST = Struct("<HHIQQQIIHHI")
_RESPONSE = Struct("<HHIIHH")
_REQUEST_END = HEADER_SIZE + _REQUEST.size

DATA_OFFSET = _REQUEST_END
"""DataOffset of an inline request: header and fixed part."""


class WriteFlags(IntFlag):
    """Flags of the request."""

    WRITE_THROUGH = 0x00000001
    WRITE_UNBUFFERED = 0x00000002


@dataclass(slots=True)
class WriteRequest:
    """SMB2 WRITE Request ([MS-SMB2] 2.2.21). Not frozen, for the same reason as `Header`."""

    file_id: FileId
    offset: int
    data: Buffer = b""
    """Inline payload; empty if the channel information names the payload."""
    channel: int = RdmaChannel.NONE
    remaining_bytes: int = 0
    """Bytes to be fetched by RDMA, if `channel` is not NONE."""
    channel_info: Buffer = b""
    """Buffer Descriptor V1 array, a multiple of 16 bytes; empty if `channel` is NONE."""
    flags: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> WriteRequest:
        if len(message) < _REQUEST_END:
            raise Malformed(f"WRITE request of {len(message)} bytes, {_REQUEST_END} are needed")
        (
            size,
            data_offset,
            length,
            offset,
            persistent,
            volatile,
            channel,
            remaining,
            info_offset,
            info_length,
            flags,
        ) = _REQUEST.unpack_from(message, HEADER_SIZE)
        if size != 49:
            raise Malformed(f"WRITE request has StructureSize {size} instead of 49")
        info: Buffer = b""
        if channel:
            info = channel_info_at(message, channel, info_offset, info_length, _REQUEST_END)
        data = slice_at(message, data_offset, length, _REQUEST_END, "WRITE data")
        return cls(FileId(persistent, volatile), offset, data, channel, remaining, info, flags)

    def pack(self) -> bytes:
        # StructureSize 49 counts one byte of buffer, which is there even if nothing is in it.
        return self.pack_fixed() + (bytes(self.channel_info) + bytes(self.data) or b"\0")

    def pack_fixed(self) -> bytes:
        """The 48 bytes before channel information and data, for those who send without copying."""
        info_length = len(self.channel_info)
        return _REQUEST.pack(
            49,
            _REQUEST_END + info_length if self.data else 0,
            len(self.data),
            self.offset,
            *self.file_id,
            self.channel,
            self.remaining_bytes,
            _REQUEST_END if info_length else 0,
            info_length,
            self.flags,
        )


@dataclass(slots=True)
class WriteResponse:
    """SMB2 WRITE Response ([MS-SMB2] 2.2.22). Not frozen, for the same reason as `Header`."""

    count: int

    @classmethod
    def parse(cls, message: Buffer) -> WriteResponse:
        _, count, *_ = unpack_body(_RESPONSE, message, 17, "WRITE response")
        return cls(count)

    def pack(self) -> bytes:
        return _RESPONSE.pack(17, 0, self.count, 0, 0, 0)
