"""QUERY_INFO: of files, volumes, security and quota ([MS-SMB2] 2.2.37, 2.2.38)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct

from smbserver.wire.bounds import HEADER_SIZE, Buffer, slice_at, unpack_body
from smbserver.wire.file_id import FileId
from smbserver.wire.output_buffer import OutputBufferResponse

_REQUEST = Struct("<HBBIHHIIIQQ")
_REQUEST_END = HEADER_SIZE + _REQUEST.size


class InfoType(IntEnum):
    """InfoType of QUERY_INFO and SET_INFO."""

    FILE = 0x01
    FILESYSTEM = 0x02
    SECURITY = 0x03
    QUOTA = 0x04


class SecurityInformation(IntFlag):
    """AdditionalInformation if InfoType is SECURITY: which parts of the descriptor."""

    OWNER = 0x00000001
    GROUP = 0x00000002
    DACL = 0x00000004
    SACL = 0x00000008
    LABEL = 0x00000010
    ATTRIBUTE = 0x00000020
    SCOPE = 0x00000040
    BACKUP = 0x00010000


class QueryInfoFlags(IntFlag):
    """Flags, for extended attributes."""

    RESTART_SCAN = 0x00000001
    RETURN_SINGLE_ENTRY = 0x00000002
    INDEX_SPECIFIED = 0x00000004


@dataclass(frozen=True, slots=True)
class QueryInfoRequest:
    """SMB2 QUERY_INFO Request ([MS-SMB2] 2.2.37)."""

    info_type: int
    file_info_class: int
    file_id: FileId
    output_buffer_length: int = 65536
    additional_information: int = 0
    flags: int = 0
    input: Buffer = b""

    @classmethod
    def parse(cls, message: Buffer) -> QueryInfoRequest:
        kind, info_class, length, offset, _, input_length, *rest = unpack_body(
            _REQUEST, message, 41, "QUERY_INFO request"
        )
        additional, flags, persistent, volatile = rest
        data = slice_at(message, offset, input_length, _REQUEST_END, "QUERY_INFO input")
        file_id = FileId(persistent, volatile)
        return cls(kind, info_class, file_id, length, additional, flags, data)

    def pack(self) -> bytes:
        data = bytes(self.input)
        fixed = _REQUEST.pack(
            41,
            self.info_type,
            self.file_info_class,
            self.output_buffer_length,
            _REQUEST_END if data else 0,
            0,
            len(data),
            self.additional_information,
            self.flags,
            *self.file_id,
        )
        return fixed + (data or b"\0")


class QueryInfoResponse(OutputBufferResponse):
    """SMB2 QUERY_INFO Response ([MS-SMB2] 2.2.38)."""

    __slots__ = ()
