"""OPLOCK_BREAK: caching taken back, of oplocks and leases ([MS-SMB2] 2.2.23 to 2.2.25)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct

from smbserver.wire.bounds import HEADER_SIZE, Buffer, Malformed, unpack_body
from smbserver.wire.file_id import FileId

_OPLOCK = Struct("<HBBIQQ")
_LEASE_BREAK = Struct("<HHI16sIIIII")
_LEASE_ACKNOWLEDGMENT = Struct("<HHI16sIQ")


class LeaseBreakFlags(IntFlag):
    """Flags of a lease break notification."""

    ACK_REQUIRED = 0x01


@dataclass(frozen=True, slots=True)
class OplockBreak:
    """Oplock break notification, acknowledgment and response ([MS-SMB2] 2.2.23.1, 24.1, 25.1)."""

    file_id: FileId
    oplock_level: int

    @classmethod
    def parse(cls, message: Buffer) -> OplockBreak:
        level, _, _, persistent, volatile = unpack_body(_OPLOCK, message, 24, "oplock break")
        return cls(FileId(persistent, volatile), level)

    def pack(self) -> bytes:
        return _OPLOCK.pack(24, self.oplock_level, 0, 0, *self.file_id)


@dataclass(frozen=True, slots=True)
class LeaseBreakNotification:
    """Lease break notification ([MS-SMB2] 2.2.23.2)."""

    lease_key: bytes
    current_lease_state: int
    new_lease_state: int
    flags: int = LeaseBreakFlags.ACK_REQUIRED
    new_epoch: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> LeaseBreakNotification:
        epoch, flags, key, current, new, _, _, _ = unpack_body(
            _LEASE_BREAK, message, 44, "lease break notification"
        )
        return cls(key, current, new, flags, epoch)

    def pack(self) -> bytes:
        return _LEASE_BREAK.pack(
            44,
            self.new_epoch,
            self.flags,
            self.lease_key,
            self.current_lease_state,
            self.new_lease_state,
            0,
            0,
            0,
        )


@dataclass(frozen=True, slots=True)
class LeaseBreakAcknowledgment:
    """Lease break acknowledgment and response ([MS-SMB2] 2.2.24.2, 2.2.25.2)."""

    lease_key: bytes
    lease_state: int

    @classmethod
    def parse(cls, message: Buffer) -> LeaseBreakAcknowledgment:
        _, _, key, state, _ = unpack_body(
            _LEASE_ACKNOWLEDGMENT, message, 36, "lease break acknowledgment"
        )
        return cls(key, state)

    def pack(self) -> bytes:
        return _LEASE_ACKNOWLEDGMENT.pack(36, 0, 0, self.lease_key, self.lease_state, 0)


_BY_STRUCTURE_SIZE: dict[
    int, type[OplockBreak] | type[LeaseBreakNotification] | type[LeaseBreakAcknowledgment]
] = {24: OplockBreak, 44: LeaseBreakNotification, 36: LeaseBreakAcknowledgment}


def parse_break(
    message: Buffer,
) -> OplockBreak | LeaseBreakNotification | LeaseBreakAcknowledgment:
    """Any OPLOCK_BREAK message: only its StructureSize says which it is."""
    size = int.from_bytes(message[HEADER_SIZE : HEADER_SIZE + 2], "little")
    kind = _BY_STRUCTURE_SIZE.get(size)
    if kind is None:
        raise Malformed(f"OPLOCK_BREAK has StructureSize {size} instead of 24, 36 or 44")
    return kind.parse(message)
