"""SESSION_SETUP: authentication, a new session or one more channel ([MS-SMB2] 2.2.5, 2.2.6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct

from smbserver.wire.bounds import HEADER_SIZE, Buffer, slice_at, unpack_body

_REQUEST = Struct("<HBBIIHHQ")
_RESPONSE = Struct("<HHHH")
_REQUEST_END = HEADER_SIZE + _REQUEST.size
_RESPONSE_END = HEADER_SIZE + _RESPONSE.size


class SessionSetupFlags(IntFlag):
    """Flags of the request."""

    BINDING = 0x01


class SessionFlags(IntFlag):
    """SessionFlags of the response."""

    IS_GUEST = 0x0001
    IS_NULL = 0x0002
    ENCRYPT_DATA = 0x0004


@dataclass(frozen=True, slots=True)
class SessionSetupRequest:
    """SMB2 SESSION_SETUP Request ([MS-SMB2] 2.2.5)."""

    security_buffer: Buffer
    flags: int = 0
    security_mode: int = 1
    capabilities: int = 0
    previous_session_id: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> SessionSetupRequest:
        flags, mode, capabilities, _, offset, length, previous = unpack_body(
            _REQUEST, message, 25, "SESSION_SETUP request"
        )
        buffer = slice_at(message, offset, length, _REQUEST_END, "SecurityBuffer")
        return cls(buffer, flags, mode, capabilities, previous)

    def pack(self) -> bytes:
        buffer = bytes(self.security_buffer)
        fixed = _REQUEST.pack(
            25,
            self.flags,
            self.security_mode,
            self.capabilities,
            0,
            _REQUEST_END,
            len(buffer),
            self.previous_session_id,
        )
        return fixed + buffer


@dataclass(frozen=True, slots=True)
class SessionSetupResponse:
    """SMB2 SESSION_SETUP Response ([MS-SMB2] 2.2.6)."""

    security_buffer: Buffer = b""
    session_flags: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> SessionSetupResponse:
        flags, offset, length = unpack_body(_RESPONSE, message, 9, "SESSION_SETUP response")
        return cls(slice_at(message, offset, length, _RESPONSE_END, "SecurityBuffer"), flags)

    def pack(self) -> bytes:
        buffer = bytes(self.security_buffer)
        return _RESPONSE.pack(9, self.session_flags, _RESPONSE_END, len(buffer)) + buffer
