"""CLOSE: the end of an open ([MS-SMB2] 2.2.15, 2.2.16)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct

from smbserver.wire.bounds import Buffer, unpack_body
from smbserver.wire.file_id import FileId

_REQUEST = Struct("<HHIQQ")
_RESPONSE = Struct("<HHIqqqqqqI")


class CloseFlags(IntFlag):
    """Flags of request and response."""

    POSTQUERY_ATTRIB = 0x0001


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """SMB2 CLOSE Request ([MS-SMB2] 2.2.15)."""

    file_id: FileId
    flags: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> CloseRequest:
        flags, _, persistent, volatile = unpack_body(_REQUEST, message, 24, "CLOSE request")
        return cls(FileId(persistent, volatile), flags)

    def pack(self) -> bytes:
        return _REQUEST.pack(24, self.flags, 0, *self.file_id)


@dataclass(frozen=True, slots=True)
class CloseResponse:
    """SMB2 CLOSE Response ([MS-SMB2] 2.2.16); all zero unless the attributes were asked for."""

    flags: int = 0
    creation_time: int = 0
    last_access_time: int = 0
    last_write_time: int = 0
    change_time: int = 0
    allocation_size: int = 0
    end_of_file: int = 0
    file_attributes: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> CloseResponse:
        flags, _, *rest = unpack_body(_RESPONSE, message, 60, "CLOSE response")
        return cls(flags, *rest)

    def pack(self) -> bytes:
        return _RESPONSE.pack(
            60,
            self.flags,
            0,
            self.creation_time,
            self.last_access_time,
            self.last_write_time,
            self.change_time,
            self.allocation_size,
            self.end_of_file,
            self.file_attributes,
        )
