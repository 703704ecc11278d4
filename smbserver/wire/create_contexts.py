"""Create contexts ([MS-SMB2] 2.2.13.2, 2.2.14.2): the list, and the data of those we know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from struct import Struct
from typing import Any

from smbserver.wire.bounds import Buffer, Malformed, padding, slice_at, unpack_from
from smbserver.wire.file_id import FileId

MAX_CONTEXTS = 64
"""Contexts in one CREATE. Clients send fewer than ten; a bound keeps the loop short."""

EA_BUFFER = b"ExtA"
SECURITY_DESCRIPTOR = b"SecD"
DURABLE_HANDLE_REQUEST = b"DHnQ"
DURABLE_HANDLE_RECONNECT = b"DHnC"
ALLOCATION_SIZE = b"AlSi"
QUERY_MAXIMAL_ACCESS = b"MxAc"
TIMEWARP_TOKEN = b"TWrp"
QUERY_ON_DISK_ID = b"QFid"
REQUEST_LEASE = b"RqLs"
DURABLE_HANDLE_REQUEST_V2 = b"DH2Q"
DURABLE_HANDLE_RECONNECT_V2 = b"DH2C"
APP_INSTANCE_ID = bytes.fromhex("45BCA66AEFA7F74A9008FA462E144D74")
APP_INSTANCE_VERSION = bytes.fromhex("B982D0B73B56074FA07B524A8116A010")
POSIX = bytes.fromhex("93AD25509CB411E7B42383DE968BCD7C")

_CONTEXT = Struct("<IHHHHI")
_U64 = Struct("<Q")
_LEASE = Struct("<16sIIQ")
_LEASE_V2 = Struct("<16sIIQ16sHH")
_DURABLE_REQUEST = Struct("<16x")
_DURABLE_RESPONSE = Struct("<8x")
_DURABLE_REQUEST_V2 = Struct("<II8x16s")
_DURABLE_RESPONSE_V2 = Struct("<II")
_DURABLE_RECONNECT = Struct("<QQ")
_DURABLE_RECONNECT_V2 = Struct("<QQ16sI")
_MAXIMAL_ACCESS = Struct("<II")
_ON_DISK_ID = Struct("<QQ16x")
_APP_INSTANCE_ID = Struct("<HH16s")


@dataclass(frozen=True, slots=True)
class CreateContext:
    """SMB2_CREATE_CONTEXT: a name and data that depend on it."""

    name: bytes
    data: Buffer = b""


def parse_contexts(buffer: Buffer) -> tuple[CreateContext, ...]:
    """The list of a CREATE request or response; offsets count from each context's start."""
    contexts: list[CreateContext] = []
    rest = memoryview(buffer)
    while rest:
        step, name_offset, name_length, _, data_offset, data_length = unpack_from(
            _CONTEXT, rest, 0, "create context"
        )
        if step and (step % 8 or step < _CONTEXT.size or step >= len(rest)):
            raise Malformed(f"create context's Next is {step}, {len(rest)} bytes are left")
        if len(contexts) == MAX_CONTEXTS:
            raise Malformed(f"more than {MAX_CONTEXTS} create contexts")
        this = rest[:step] if step else rest
        name = slice_at(this, name_offset, name_length, _CONTEXT.size, "create context's name")
        least = name_offset + name_length
        data = slice_at(this, data_offset, data_length, least, "create context's data")
        contexts.append(CreateContext(bytes(name), data))
        rest = rest[step:] if step else rest[:0]
    return tuple(contexts)


def pack_contexts(contexts: Iterable[CreateContext]) -> bytes:
    """The list as the wire has it: every context but the last padded to a multiple of 8."""
    packed = [_pack_context(context) for context in contexts]
    last = len(packed) - 1
    return b"".join(
        body if index == last else _linked(body + padding(len(body)))
        for index, body in enumerate(packed)
    )


def _pack_context(context: CreateContext) -> bytes:
    name, data = context.name, bytes(context.data)
    gap = padding(_CONTEXT.size + len(name))
    data_offset = _CONTEXT.size + len(name) + len(gap) if data else 0
    fixed = _CONTEXT.pack(0, _CONTEXT.size, len(name), 0, data_offset, len(data))
    return fixed + name + gap + data


def _linked(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + body[4:]


def find_context(contexts: Iterable[CreateContext], name: bytes) -> CreateContext | None:
    """The first context of this name."""
    return next((context for context in contexts if context.name == name), None)


class LeaseState(IntFlag):
    """LeaseState of leases ([MS-SMB2] 2.2.13.2.8)."""

    NONE = 0x00
    READ_CACHING = 0x01
    HANDLE_CACHING = 0x02
    WRITE_CACHING = 0x04


class LeaseFlags(IntFlag):
    """LeaseFlags of leases."""

    BREAK_IN_PROGRESS = 0x00000002
    PARENT_LEASE_KEY_SET = 0x00000004


@dataclass(frozen=True, slots=True)
class Lease:
    """SMB2_CREATE_REQUEST_LEASE and its response, version 1 and 2 ([MS-SMB2] 2.2.13.2.8, .10)."""

    lease_key: bytes
    lease_state: int
    lease_flags: int = 0
    version: int = 2
    """1 is 32 bytes, 2 is 52; a server answers in the version of the request."""
    parent_lease_key: bytes = bytes(16)
    epoch: int = 0

    @classmethod
    def parse(cls, data: Buffer) -> Lease:
        if len(data) == _LEASE.size:
            key, state, flags, _ = _LEASE.unpack(data)
            return cls(key, state, flags, 1)
        if len(data) == _LEASE_V2.size:
            key, state, flags, _, parent, epoch, _ = _LEASE_V2.unpack(data)
            return cls(key, state, flags, 2, parent, epoch)
        raise Malformed(f"lease of {len(data)} bytes instead of {_LEASE.size} or {_LEASE_V2.size}")

    def pack(self) -> bytes:
        if self.version == 1:
            return _LEASE.pack(self.lease_key, self.lease_state, self.lease_flags, 0)
        return _LEASE_V2.pack(
            self.lease_key,
            self.lease_state,
            self.lease_flags,
            0,
            self.parent_lease_key,
            self.epoch,
            0,
        )


class DurableHandleFlags(IntFlag):
    """Flags of the version 2 durable handle contexts."""

    PERSISTENT = 0x00000002


@dataclass(frozen=True, slots=True)
class DurableHandleRequest:
    """SMB2_CREATE_DURABLE_HANDLE_REQUEST ([MS-SMB2] 2.2.13.2.3): says nothing, in 16 bytes."""

    @classmethod
    def parse(cls, data: Buffer) -> DurableHandleRequest:
        return cls(*_exactly(_DURABLE_REQUEST, data, "DHnQ"))

    def pack(self) -> bytes:
        return _DURABLE_REQUEST.pack()


@dataclass(frozen=True, slots=True)
class DurableHandleResponse:
    """SMB2_CREATE_DURABLE_HANDLE_RESPONSE ([MS-SMB2] 2.2.14.2.3)."""

    @classmethod
    def parse(cls, data: Buffer) -> DurableHandleResponse:
        return cls(*_exactly(_DURABLE_RESPONSE, data, "DHnQ response"))

    def pack(self) -> bytes:
        return _DURABLE_RESPONSE.pack()


@dataclass(frozen=True, slots=True)
class DurableHandleReconnect:
    """SMB2_CREATE_DURABLE_HANDLE_RECONNECT ([MS-SMB2] 2.2.13.2.4)."""

    file_id: FileId

    @classmethod
    def parse(cls, data: Buffer) -> DurableHandleReconnect:
        return cls(FileId(*_exactly(_DURABLE_RECONNECT, data, "DHnC")))

    def pack(self) -> bytes:
        return _DURABLE_RECONNECT.pack(*self.file_id)


@dataclass(frozen=True, slots=True)
class DurableHandleRequestV2:
    """SMB2_CREATE_DURABLE_HANDLE_REQUEST_V2 ([MS-SMB2] 2.2.13.2.11)."""

    timeout: int
    """Milliseconds; 0 leaves it to the server."""
    flags: int
    create_guid: bytes

    @classmethod
    def parse(cls, data: Buffer) -> DurableHandleRequestV2:
        return cls(*_exactly(_DURABLE_REQUEST_V2, data, "DH2Q"))

    def pack(self) -> bytes:
        return _DURABLE_REQUEST_V2.pack(self.timeout, self.flags, self.create_guid)


@dataclass(frozen=True, slots=True)
class DurableHandleResponseV2:
    """SMB2_CREATE_DURABLE_HANDLE_RESPONSE_V2 ([MS-SMB2] 2.2.14.2.12)."""

    timeout: int
    flags: int = 0

    @classmethod
    def parse(cls, data: Buffer) -> DurableHandleResponseV2:
        return cls(*_exactly(_DURABLE_RESPONSE_V2, data, "DH2Q response"))

    def pack(self) -> bytes:
        return _DURABLE_RESPONSE_V2.pack(self.timeout, self.flags)


@dataclass(frozen=True, slots=True)
class DurableHandleReconnectV2:
    """SMB2_CREATE_DURABLE_HANDLE_RECONNECT_V2 ([MS-SMB2] 2.2.13.2.12)."""

    file_id: FileId
    create_guid: bytes
    flags: int = 0

    @classmethod
    def parse(cls, data: Buffer) -> DurableHandleReconnectV2:
        persistent, volatile, guid, flags = _exactly(_DURABLE_RECONNECT_V2, data, "DH2C")
        return cls(FileId(persistent, volatile), guid, flags)

    def pack(self) -> bytes:
        return _DURABLE_RECONNECT_V2.pack(*self.file_id, self.create_guid, self.flags)


@dataclass(frozen=True, slots=True)
class AppInstanceId:
    """SMB2_CREATE_APP_INSTANCE_ID ([MS-SMB2] 2.2.13.2.13)."""

    app_instance_id: bytes

    @classmethod
    def parse(cls, data: Buffer) -> AppInstanceId:
        size, _, app_instance_id = _exactly(_APP_INSTANCE_ID, data, "AppInstanceId")
        if size != _APP_INSTANCE_ID.size:
            raise Malformed(f"AppInstanceId's StructureSize is {size}")
        return cls(app_instance_id)

    def pack(self) -> bytes:
        return _APP_INSTANCE_ID.pack(_APP_INSTANCE_ID.size, 0, self.app_instance_id)


@dataclass(frozen=True, slots=True)
class AllocationSize:
    """SMB2_CREATE_ALLOCATION_SIZE ([MS-SMB2] 2.2.13.2.6)."""

    allocation_size: int

    @classmethod
    def parse(cls, data: Buffer) -> AllocationSize:
        return cls(*_exactly(_U64, data, "AlSi"))

    def pack(self) -> bytes:
        return _U64.pack(self.allocation_size)


@dataclass(frozen=True, slots=True)
class TimewarpToken:
    """SMB2_CREATE_TIMEWARP_TOKEN ([MS-SMB2] 2.2.13.2.7)."""

    timestamp: int

    @classmethod
    def parse(cls, data: Buffer) -> TimewarpToken:
        return cls(*_exactly(_U64, data, "TWrp"))

    def pack(self) -> bytes:
        return _U64.pack(self.timestamp)


@dataclass(frozen=True, slots=True)
class QueryMaximalAccessResponse:
    """SMB2_CREATE_QUERY_MAXIMAL_ACCESS_RESPONSE ([MS-SMB2] 2.2.14.2.5)."""

    query_status: int
    maximal_access: int

    @classmethod
    def parse(cls, data: Buffer) -> QueryMaximalAccessResponse:
        return cls(*_exactly(_MAXIMAL_ACCESS, data, "MxAc response"))

    def pack(self) -> bytes:
        return _MAXIMAL_ACCESS.pack(self.query_status, self.maximal_access)


@dataclass(frozen=True, slots=True)
class QueryOnDiskIdResponse:
    """SMB2_CREATE_QUERY_ON_DISK_ID response ([MS-SMB2] 2.2.14.2.9)."""

    disk_file_id: int
    volume_id: int

    @classmethod
    def parse(cls, data: Buffer) -> QueryOnDiskIdResponse:
        return cls(*_exactly(_ON_DISK_ID, data, "QFid response"))

    def pack(self) -> bytes:
        return _ON_DISK_ID.pack(self.disk_file_id, self.volume_id)


def _exactly(layout: Struct, data: Buffer, name: str) -> tuple[Any, ...]:
    if len(data) != layout.size:
        raise Malformed(f"{name} has {len(data)} bytes instead of {layout.size}")
    return layout.unpack(data)
