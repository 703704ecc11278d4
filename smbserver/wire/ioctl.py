"""IOCTL: file system controls and the proof of negotiation ([MS-SMB2] 2.2.31, 2.2.32)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct, unpack_from

from smbserver.wire.bounds import HEADER_SIZE, Buffer, Malformed, padding, slice_at, unpack_body
from smbserver.wire.file_id import ALL_ONES, FileId

_REQUEST = Struct("<HHIQQIIIIIIII")
_RESPONSE = Struct("<HHIQQIIIIII")
_VALIDATE_REQUEST = Struct("<I16sHH")
_VALIDATE_RESPONSE = Struct("<I16sHH")
_REQUEST_END = HEADER_SIZE + _REQUEST.size
_RESPONSE_END = HEADER_SIZE + _RESPONSE.size


class CtlCode(IntEnum):
    """CtlCode ([MS-SMB2] 2.2.31, [MS-FSCC] 2.3)."""

    FSCTL_DFS_GET_REFERRALS = 0x00060194
    FSCTL_DFS_GET_REFERRALS_EX = 0x000601B0
    FSCTL_SET_COMPRESSION = 0x0009C040
    FSCTL_GET_COMPRESSION = 0x0009003C
    FSCTL_FIND_FILES_BY_SID = 0x0009008F
    FSCTL_CREATE_OR_GET_OBJECT_ID = 0x000900C0
    FSCTL_GET_OBJECT_ID = 0x0009009C
    FSCTL_SET_REPARSE_POINT = 0x000900A4
    FSCTL_GET_REPARSE_POINT = 0x000900A8
    FSCTL_DELETE_REPARSE_POINT = 0x000900AC
    FSCTL_SET_SPARSE = 0x000900C4
    FSCTL_FILE_LEVEL_TRIM = 0x00098208
    FSCTL_SET_ZERO_DATA = 0x000980C8
    FSCTL_DUPLICATE_EXTENTS_TO_FILE = 0x00098344
    FSCTL_QUERY_ALLOCATED_RANGES = 0x000940CF
    FSCTL_QUERY_FILE_REGIONS = 0x00090284
    FSCTL_OFFLOAD_READ = 0x00094264
    FSCTL_OFFLOAD_WRITE = 0x00098268
    FSCTL_PIPE_PEEK = 0x0011400C
    FSCTL_PIPE_WAIT = 0x00110018
    FSCTL_PIPE_TRANSCEIVE = 0x0011C017
    FSCTL_SRV_REQUEST_RESUME_KEY = 0x00140078
    FSCTL_SRV_COPYCHUNK = 0x001440F2
    FSCTL_SRV_COPYCHUNK_WRITE = 0x001480F2
    FSCTL_SRV_ENUMERATE_SNAPSHOTS = 0x00144064
    FSCTL_SRV_READ_HASH = 0x001441BB
    FSCTL_LMR_REQUEST_RESILIENCY = 0x001401D4
    FSCTL_QUERY_NETWORK_INTERFACE_INFO = 0x001401FC
    FSCTL_VALIDATE_NEGOTIATE_INFO = 0x00140204


class IoctlFlags(IntFlag):
    """Flags of the request."""

    IS_FSCTL = 0x00000001


@dataclass(frozen=True, slots=True)
class IoctlRequest:
    """SMB2 IOCTL Request ([MS-SMB2] 2.2.31)."""

    ctl_code: int
    file_id: FileId = ALL_ONES
    input: Buffer = b""
    max_output_response: int = 0
    max_input_response: int = 0
    flags: int = IoctlFlags.IS_FSCTL

    @classmethod
    def parse(cls, message: Buffer) -> IoctlRequest:
        _, code, persistent, volatile, offset, count, max_input, *rest = unpack_body(
            _REQUEST, message, 57, "IOCTL request"
        )
        _, _, max_output, flags, _ = rest
        data = slice_at(message, offset, count, _REQUEST_END, "IOCTL input")
        return cls(code, FileId(persistent, volatile), data, max_output, max_input, flags)

    def pack(self) -> bytes:
        data = bytes(self.input)
        fixed = _REQUEST.pack(
            57,
            0,
            self.ctl_code,
            *self.file_id,
            _REQUEST_END,
            len(data),
            self.max_input_response,
            _REQUEST_END,
            0,
            self.max_output_response,
            self.flags,
            0,
        )
        return fixed + (data or b"\0")


@dataclass(frozen=True, slots=True)
class IoctlResponse:
    """SMB2 IOCTL Response ([MS-SMB2] 2.2.32)."""

    ctl_code: int
    file_id: FileId = ALL_ONES
    output: Buffer = b""
    input: Buffer = b""
    """What some pipe controls give back of the input; mostly nothing."""
    flags: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> IoctlResponse:
        _, code, persistent, volatile, *rest = unpack_body(_RESPONSE, message, 49, "IOCTL response")
        input_offset, input_count, output_offset, output_count, flags, _ = rest
        back = slice_at(message, input_offset, input_count, _RESPONSE_END, "IOCTL input")
        output = slice_at(message, output_offset, output_count, _RESPONSE_END, "IOCTL output")
        return cls(code, FileId(persistent, volatile), output, back, flags)

    def pack(self) -> bytes:
        back, output = bytes(self.input), bytes(self.output)
        gap = padding(len(back))
        fixed = _RESPONSE.pack(
            49,
            0,
            self.ctl_code,
            *self.file_id,
            _RESPONSE_END,
            len(back),
            _RESPONSE_END + len(back) + len(gap),
            len(output),
            self.flags,
            0,
        )
        return fixed + back + gap + output


@dataclass(frozen=True, slots=True)
class ValidateNegotiateInfoRequest:
    """VALIDATE_NEGOTIATE_INFO Request ([MS-SMB2] 2.2.31.4), the input of its FSCTL."""

    capabilities: int
    guid: bytes
    security_mode: int
    dialects: tuple[int, ...]

    @classmethod
    def parse(cls, data: Buffer) -> ValidateNegotiateInfoRequest:
        if len(data) < _VALIDATE_REQUEST.size:
            raise Malformed(f"VALIDATE_NEGOTIATE_INFO of {len(data)} bytes")
        capabilities, guid, mode, count = _VALIDATE_REQUEST.unpack_from(data)
        raw = slice_at(data, _VALIDATE_REQUEST.size, 2 * count, 0, "Dialects")
        return cls(capabilities, guid, mode, unpack_from(f"<{count}H", raw))

    def pack(self) -> bytes:
        dialects = b"".join(dialect.to_bytes(2, "little") for dialect in self.dialects)
        fixed = _VALIDATE_REQUEST.pack(
            self.capabilities, self.guid, self.security_mode, len(self.dialects)
        )
        return fixed + dialects


@dataclass(frozen=True, slots=True)
class ValidateNegotiateInfoResponse:
    """VALIDATE_NEGOTIATE_INFO Response ([MS-SMB2] 2.2.32.6), the output of its FSCTL."""

    capabilities: int
    guid: bytes
    security_mode: int
    dialect: int

    @classmethod
    def parse(cls, data: Buffer) -> ValidateNegotiateInfoResponse:
        if len(data) != _VALIDATE_RESPONSE.size:
            raise Malformed(f"VALIDATE_NEGOTIATE_INFO response of {len(data)} bytes")
        return cls(*_VALIDATE_RESPONSE.unpack(data))

    def pack(self) -> bytes:
        return _VALIDATE_RESPONSE.pack(
            self.capabilities, self.guid, self.security_mode, self.dialect
        )
