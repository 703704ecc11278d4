"""What a client may cache of a file, and how that is taken back ([MS-SMB2] 3.3.1.12, [MS-FSA] 2.1.5.18).

An oplock and a lease are one thing here, a `Holding`: level II is R, exclusive RW, batch RWH. An oplock belongs to one
open, a lease to all opens of a client that name its key. Nothing here sends or waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smbserver import access
from smbserver.durable.record import Cached
from smbserver.wire.create import OplockLevel
from smbserver.wire.create_contexts import Lease, LeaseFlags

if TYPE_CHECKING:
    from smbserver.open import Open
    from smbserver.share_modes import Key

READ = 1
HANDLE = 2
WRITE = 4
"""LeaseState ([MS-SMB2] 2.2.13.2.8), as plain numbers."""

_OF_LEVEL = {
    int(OplockLevel.II): READ,
    int(OplockLevel.EXCLUSIVE): READ | WRITE,
    int(OplockLevel.BATCH): READ | WRITE | HANDLE,
}
_TOUCHES_NOTHING = access.SYNCHRONIZE | access.READ_ATTRIBUTES | access.WRITE_ATTRIBUTES


def touches_nothing(rights: int) -> bool:
    """Whether an open with these rights disturbs no oplock: it looks at attributes only."""
    return not rights & ~_TOUCHES_NOTHING


def touches_no_lease(rights: int) -> bool:
    """The same for leases, which also let the security descriptor be read."""
    return not rights & ~(_TOUCHES_NOTHING | access.READ_CONTROL)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a CREATE asks to cache."""

    state: int = 0
    lease: Lease | None = None
    client_guid: bytes = b""

    @classmethod
    def of(cls, level: int, lease: Lease | None, client_guid: bytes) -> Wish:
        """Of RequestedOplockLevel and the lease context, which counts only if the level says so."""
        if level != OplockLevel.LEASE:
            return cls(_OF_LEVEL.get(level, 0))
        if lease is None:
            return cls()
        state = lease.lease_state & (READ | HANDLE | WRITE)
        # Only R, RH, RW and RWH mean something ([MS-SMB2] 3.3.5.9.8).
        return cls(state if state & READ else 0, lease, client_guid)

    def for_folder(self) -> Wish:
        """Of a folder one can keep the listing and the handle, under leases of version 2 only."""
        if self.lease is None or self.lease.version < 2:
            return Wish()
        return Wish(self.state & (READ | HANDLE), self.lease, self.client_guid)

    @property
    def own_lease(self) -> tuple[bytes, bytes] | None:
        """Under which lease the open is."""
        return None if self.lease is None else (self.client_guid, self.lease.lease_key)

    @property
    def folder_lease(self) -> tuple[bytes, bytes] | None:
        """The client's lease of the file's folder, if the request names it: who holds it knows what is done here."""
        if self.lease is None or not self.lease.lease_flags & LeaseFlags.PARENT_LEASE_KEY_SET:
            return None
        return self.client_guid, self.lease.parent_lease_key


@dataclass(slots=True, eq=False)
class Holding:
    """An oplock or a lease that was granted; with state 0 it only tells that the file is open."""

    number: int
    file: Key
    state: int
    client_guid: bytes = b""
    lease_key: bytes = b""
    """Empty: an oplock, or nothing at all."""
    version: int = 0
    """Of the lease context; what the client is told is in the same version."""
    epoch: int = 0
    parent_key: bytes | None = None
    is_oplock: bool = False
    opens: list[Open] = field(default_factory=list)
    breaking: bool = False
    """The client was told and has not acknowledged."""
    requested: int = 0
    """BreakToLeaseState: what the client was told to go down to."""
    required: int = 0
    """What it has to go down to in the end; less, if more was wanted meanwhile."""
    watchers: set[int] = field(default_factory=set)
    """Workers that wait for the break."""
    deadline: asyncio.TimerHandle | None = None

    @property
    def is_lease(self) -> bool:
        return bool(self.lease_key)

    @property
    def level(self) -> int:
        """OplockLevel as a response to CREATE has it."""
        if self.is_lease:
            return int(OplockLevel.LEASE)
        if not self.state & READ:
            return int(OplockLevel.NONE)
        if not self.state & WRITE:
            return int(OplockLevel.II)
        return int(OplockLevel.BATCH if self.state & HANDLE else OplockLevel.EXCLUSIVE)

    def response(self) -> Lease:
        """What CREATE answers ([MS-SMB2] 2.2.14.2.10)."""
        flags = LeaseFlags.BREAK_IN_PROGRESS if self.breaking else 0
        if self.parent_key is not None:
            flags |= LeaseFlags.PARENT_LEASE_KEY_SET
        return Lease(
            self.lease_key,
            self.state,
            int(flags),
            self.version,
            self.parent_key or bytes(16),
            self.epoch,
        )

    def kept(self) -> Cached:
        """What an open goes on with whose client was away; a break that was under way counts as done."""
        state = self.required if self.breaking else self.state
        return Cached(
            state, self.is_oplock, self.lease_key, self.version, self.epoch, self.parent_key
        )

    def upgrade(self, wanted: int, granted: int) -> None:
        """One more open of the lease may bring more, all that it wants or nothing ([MS-SMB2] 3.3.5.9.8)."""
        if self.breaking or wanted != granted or self.state & ~granted or self.state == granted:
            return
        self.state = granted
        self.epoch = self.epoch + 1 & 0xFFFF

    def start_break(self, to: int) -> tuple[int, int] | None:
        """Take caching away: from which state to which the client is to be told; None: it need not be told now."""
        to &= self.state
        if self.is_oplock:
            to &= READ
        if not to & READ:  # W or H alone mean nothing
            to = 0
        if self.breaking:
            self.required &= to
            return None
        if to == self.state:
            return None
        before = self.state
        self.epoch = self.epoch + 1 & 0xFFFF
        if before == READ:  # nothing to write back or close: no acknowledgment is awaited
            self.state = 0
        else:
            self.breaking, self.requested, self.required = True, to, to
        return before, to

    def acknowledge(self, state: int) -> tuple[int, int] | None:
        """The client has gone down to `state`; what it must be told next, if that is not enough."""
        self.state = state
        if not state & ~self.required:
            self.breaking = False
            return None
        # In steps, as Windows does it: what needs an acknowledgment keeps R until that has come.
        if state & (WRITE | HANDLE):
            self.requested = self.required | READ
            return state, self.requested
        self.state, self.breaking = 0, False
        return state, 0
