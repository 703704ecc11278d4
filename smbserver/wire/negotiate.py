"""NEGOTIATE: dialect, capabilities and limits of a connection ([MS-SMB2] 2.2.3, 2.2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from struct import unpack_from as struct_unpack_from
from typing import TypeVar

from smbserver.wire.bounds import HEADER_SIZE, Buffer, Malformed, padding, slice_at, unpack_body
from smbserver.wire.negotiate_contexts import NegotiateContext, pack_contexts, parse_contexts

MAX_DIALECTS = 64
"""Dialects in one request; there are six."""

_REQUEST = Struct("<HHHHI16s8s")
_CONTEXT_LIST = Struct("<IHH")
_START_TIME = Struct("<Q")
_RESPONSE = Struct("<HHHH16sIIIIQQHHI")
_REQUEST_END = HEADER_SIZE + _REQUEST.size
_RESPONSE_END = HEADER_SIZE + _RESPONSE.size

_Context = TypeVar("_Context")


class Dialect(IntEnum):
    """Dialect revisions; `WILDCARD` answers an SMB1 negotiate and asks for an SMB2 one."""

    SMB_2_0_2 = 0x0202
    SMB_2_1 = 0x0210
    SMB_3_0 = 0x0300
    SMB_3_0_2 = 0x0302
    SMB_3_1_1 = 0x0311
    WILDCARD = 0x02FF


class SecurityMode(IntFlag):
    """SecurityMode of NEGOTIATE and SESSION_SETUP."""

    SIGNING_ENABLED = 0x0001
    SIGNING_REQUIRED = 0x0002


class Capabilities(IntFlag):
    """Capabilities of NEGOTIATE ([MS-SMB2] 2.2.3)."""

    DFS = 0x00000001
    LEASING = 0x00000002
    LARGE_MTU = 0x00000004
    MULTI_CHANNEL = 0x00000008
    PERSISTENT_HANDLES = 0x00000010
    DIRECTORY_LEASING = 0x00000020
    ENCRYPTION = 0x00000040
    NOTIFICATIONS = 0x00000080


def find_context(contexts: tuple[NegotiateContext, ...], kind: type[_Context]) -> _Context | None:
    """The first context of a kind."""
    return next((context for context in contexts if isinstance(context, kind)), None)


@dataclass(frozen=True, slots=True)
class NegotiateRequest:
    """SMB2 NEGOTIATE Request ([MS-SMB2] 2.2.3)."""

    dialects: tuple[int, ...]
    security_mode: int = SecurityMode.SIGNING_ENABLED
    capabilities: int = 0
    client_guid: bytes = bytes(16)
    negotiate_contexts: tuple[NegotiateContext, ...] = ()
    """Only where 3.1.1 is among the dialects."""
    client_start_time: int = 0
    """Only where 3.1.1 is not among the dialects; must be 0."""

    @classmethod
    def parse(cls, message: Buffer) -> NegotiateRequest:
        count, mode, _, capabilities, guid, tail = unpack_body(
            _REQUEST, message, 36, "NEGOTIATE request"
        )
        if count > MAX_DIALECTS:
            raise Malformed(f"{count} dialects, at most {MAX_DIALECTS} are read")
        raw = slice_at(message, _REQUEST_END, 2 * count, _REQUEST_END, "Dialects")
        dialects: tuple[int, ...] = struct_unpack_from(f"<{count}H", raw)
        if Dialect.SMB_3_1_1 not in dialects:
            return cls(dialects, mode, capabilities, guid, (), *_START_TIME.unpack(tail))
        offset, contexts, _ = _CONTEXT_LIST.unpack(tail)
        end = _REQUEST_END + 2 * count
        return cls(
            dialects, mode, capabilities, guid, parse_contexts(message, offset, contexts, end)
        )

    def pack(self) -> bytes:
        dialects = b"".join(dialect.to_bytes(2, "little") for dialect in self.dialects)
        tail, contexts = _START_TIME.pack(self.client_start_time), b""
        if Dialect.SMB_3_1_1 in self.dialects:
            dialects += padding(_REQUEST_END + len(dialects))
            offset = _REQUEST_END + len(dialects) if self.negotiate_contexts else 0
            tail = _CONTEXT_LIST.pack(offset, len(self.negotiate_contexts), 0)
            contexts = pack_contexts(self.negotiate_contexts)
        fixed = _REQUEST.pack(
            36,
            len(self.dialects),
            self.security_mode,
            0,
            self.capabilities,
            self.client_guid,
            tail,
        )
        return fixed + dialects + contexts


@dataclass(frozen=True, slots=True)
class NegotiateResponse:
    """SMB2 NEGOTIATE Response ([MS-SMB2] 2.2.4)."""

    dialect_revision: int
    security_mode: int = SecurityMode.SIGNING_ENABLED
    server_guid: bytes = bytes(16)
    capabilities: int = 0
    max_transact_size: int = 65536
    max_read_size: int = 65536
    max_write_size: int = 65536
    system_time: int = 0
    server_start_time: int = 0
    security_buffer: Buffer = b""
    negotiate_contexts: tuple[NegotiateContext, ...] = ()
    """Only in dialect 3.1.1."""

    @classmethod
    def parse(cls, message: Buffer) -> NegotiateResponse:
        (mode, dialect, count, guid, capabilities, transact, read, write, time, start, *rest) = (
            unpack_body(_RESPONSE, message, 65, "NEGOTIATE response")
        )
        offset, length, context_offset = rest
        buffer = slice_at(message, offset, length, _RESPONSE_END, "SecurityBuffer")
        contexts: tuple[NegotiateContext, ...] = ()
        if dialect == Dialect.SMB_3_1_1:
            contexts = parse_contexts(message, context_offset, count, _RESPONSE_END)
        return cls(
            dialect, mode, guid, capabilities, transact, read, write, time, start, buffer, contexts
        )

    def pack(self) -> bytes:
        buffer, contexts, context_offset = bytes(self.security_buffer), b"", 0
        if self.negotiate_contexts:
            gap = padding(_RESPONSE_END + len(buffer))
            context_offset = _RESPONSE_END + len(buffer) + len(gap)
            contexts = gap + pack_contexts(self.negotiate_contexts)
        fixed = _RESPONSE.pack(
            65,
            self.security_mode,
            self.dialect_revision,
            len(self.negotiate_contexts),
            self.server_guid,
            self.capabilities,
            self.max_transact_size,
            self.max_read_size,
            self.max_write_size,
            self.system_time,
            self.server_start_time,
            _RESPONSE_END,
            len(buffer),
            context_offset,
        )
        return fixed + buffer + contexts
