"""SET_INFO: of files, volumes and security ([MS-SMB2] 2.2.39, 2.2.40)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from smbserver.wire.bounds import HEADER_SIZE, Buffer, slice_at, unpack_body
from smbserver.wire.file_id import FileId

_REQUEST = Struct("<HBBIHHIQQ")
_RESPONSE = Struct("<H")
_REQUEST_END = HEADER_SIZE + _REQUEST.size


@dataclass(frozen=True, slots=True)
class SetInfoRequest:
    """SMB2 SET_INFO Request ([MS-SMB2] 2.2.39)."""

    info_type: int
    file_info_class: int
    file_id: FileId
    buffer: Buffer
    additional_information: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> SetInfoRequest:
        kind, info_class, length, offset, _, additional, persistent, volatile = unpack_body(
            _REQUEST, message, 33, "SET_INFO request"
        )
        data = slice_at(message, offset, length, _REQUEST_END, "SET_INFO buffer")
        return cls(kind, info_class, FileId(persistent, volatile), data, additional)

    def pack(self) -> bytes:
        data = bytes(self.buffer)
        fixed = _REQUEST.pack(
            33,
            self.info_type,
            self.file_info_class,
            len(data),
            _REQUEST_END,
            0,
            self.additional_information,
            *self.file_id,
        )
        return fixed + (data or b"\0")


@dataclass(frozen=True, slots=True)
class SetInfoResponse:
    """SMB2 SET_INFO Response ([MS-SMB2] 2.2.40)."""

    @classmethod
    def parse(cls, message: Buffer) -> SetInfoResponse:
        unpack_body(_RESPONSE, message, 2, "SET_INFO response")
        return cls()

    def pack(self) -> bytes:
        return _RESPONSE.pack(2)
