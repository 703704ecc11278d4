"""QUERY_DIRECTORY: the names in a directory ([MS-SMB2] 2.2.33, 2.2.34)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct

from smbserver.wire.bounds import (
    HEADER_SIZE,
    Buffer,
    slice_at,
    unpack_body,
    utf16_decode,
    utf16_encode,
)
from smbserver.wire.file_id import FileId
from smbserver.wire.output_buffer import OutputBufferResponse

_REQUEST = Struct("<HBBIQQHHI")
_REQUEST_END = HEADER_SIZE + _REQUEST.size


class QueryDirectoryFlags(IntFlag):
    """Flags of the request."""

    RESTART_SCANS = 0x01
    RETURN_SINGLE_ENTRY = 0x02
    INDEX_SPECIFIED = 0x04
    REOPEN = 0x10


@dataclass(frozen=True, slots=True)
class QueryDirectoryRequest:
    """SMB2 QUERY_DIRECTORY Request ([MS-SMB2] 2.2.33)."""

    file_information_class: int
    file_id: FileId
    file_name: str = "*"
    """The search pattern."""
    output_buffer_length: int = 65536
    flags: int = 0
    file_index: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> QueryDirectoryRequest:
        kind, flags, index, persistent, volatile, offset, name_length, length = unpack_body(
            _REQUEST, message, 33, "QUERY_DIRECTORY request"
        )
        raw = slice_at(message, offset, name_length, _REQUEST_END, "FileName")
        name = utf16_decode(raw, "FileName")
        return cls(kind, FileId(persistent, volatile), name, length, flags, index)

    def pack(self) -> bytes:
        name = utf16_encode(self.file_name)
        fixed = _REQUEST.pack(
            33,
            self.file_information_class,
            self.flags,
            self.file_index,
            *self.file_id,
            _REQUEST_END,
            len(name),
            self.output_buffer_length,
        )
        return fixed + (name or b"\0")


class QueryDirectoryResponse(OutputBufferResponse):
    """SMB2 QUERY_DIRECTORY Response ([MS-SMB2] 2.2.34)."""

    __slots__ = ()
