"""LOCK: byte ranges ([MS-SMB2] 2.2.26, 2.2.27)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct

from smbserver.wire.bounds import HEADER_SIZE, Buffer, slice_at, unpack_body
from smbserver.wire.empty import EmptyBody
from smbserver.wire.file_id import FileId

_REQUEST = Struct("<HHIQQ")
_ELEMENT = Struct("<QQII")
_REQUEST_END = HEADER_SIZE + _REQUEST.size


class LockFlags(IntFlag):
    """Flags of a range."""

    SHARED_LOCK = 0x00000001
    EXCLUSIVE_LOCK = 0x00000002
    UNLOCK = 0x00000004
    FAIL_IMMEDIATELY = 0x00000010


@dataclass(frozen=True, slots=True)
class LockElement:
    """SMB2_LOCK_ELEMENT ([MS-SMB2] 2.2.26.1)."""

    offset: int
    length: int
    flags: int


@dataclass(frozen=True, slots=True)
class LockRequest:
    """SMB2 LOCK Request ([MS-SMB2] 2.2.26)."""

    file_id: FileId
    locks: tuple[LockElement, ...]
    lock_sequence_number: int = 0
    """4 bits."""
    lock_sequence_index: int = 0
    """28 bits."""

    @classmethod
    def parse(cls, message: Buffer) -> LockRequest:
        count, sequence, persistent, volatile = unpack_body(_REQUEST, message, 48, "LOCK request")
        raw = slice_at(message, _REQUEST_END, count * _ELEMENT.size, _REQUEST_END, "Locks")
        locks = tuple(
            LockElement(offset, length, flags)
            for offset, length, flags, _ in _ELEMENT.iter_unpack(raw)
        )
        return cls(FileId(persistent, volatile), locks, sequence & 0xF, sequence >> 4)

    def pack(self) -> bytes:
        sequence = self.lock_sequence_number | self.lock_sequence_index << 4
        locks = (_ELEMENT.pack(lock.offset, lock.length, lock.flags, 0) for lock in self.locks)
        fixed = _REQUEST.pack(48, len(self.locks), sequence, *self.file_id)
        return fixed + b"".join(locks)


class LockResponse(EmptyBody):
    """SMB2 LOCK Response ([MS-SMB2] 2.2.27)."""

    __slots__ = ()
