"""READs and WRITEs that are served in C (csrc/smb2_serve.h): the opens they may touch, and what a connection needs.

1. the first request that names an open admits it, if its data needs nothing but its descriptor; its end withdraws it;
2. a session that is bound to a connection is served there until its authentication ends, signed with its key there,
   unless its requests must be sealed;
3. the channel shows every frame to C first (`smbdirect.shortcut`); what is left comes to `commands/read.py` and
   `commands/write.py` as ever.
"""

from __future__ import annotations

import errno
import math
import time
from typing import TYPE_CHECKING, Any

from smbdirect.channel_statistics import ChannelStatistics
from smbserver import locks
from smbserver._smb2 import ffi, lib
from smbserver.payload import LOOP_MAX, MAX_WRITTEN, SENT_MIN
from smbserver.vfs.errors import status_of
from smbserver.vfs.file import File
from smbserver.wire.negotiate import Dialect
from smbserver.wire.rdma_channel import RdmaChannel
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbdirect.pool import Pool, PoolRange
    from smbserver.connection import Connection
    from smbserver.open import Open
    from smbserver.oplock import Caching
    from smbserver.session import Session
    from smbserver.signing import Signer

INLINE_MAX = SENT_MIN - 1
"""Bytes of payload in a message that C copies; what is longer is cheaper moved from where it lies."""

WAITING_MAX = 1 << 20
"""Bytes that wait for a client who does not read; beyond, its requests go the long way, which has a bound."""

POOL_SHARE = 4
"""The part of the pool that is kept for C: one fourth. What is longer than LOOP_MAX uses the rest."""

_REPLIES_SIZE = 512 << 10
"""Bytes of the memory that all connections make their replies in, one after the other."""

_replies = ffi.new("uint8_t[]", _REPLIES_SIZE)
_replies_view = memoryview(ffi.buffer(_replies))
_opens = ffi.gc(lib.smb2_opens_create(), lib.smb2_opens_destroy)


# 1. opens


class QuickOpen:
    """What C knows of an open, until `withdraw`."""

    __slots__ = ("_known", "_locked", "_readers")

    def __init__(self, opened: Open, caching: Caching) -> None:
        self._locked = ffi.from_buffer("uint32_t[]", locks.hint_of(opened))
        self._readers = ffi.from_buffer("uint32_t[]", caching.readers(opened))
        open_now = {
            "session_id": opened.tree.session.id,
            "persistent_id": opened.persistent_id,
            "volatile_id": opened.volatile_id,
            "tree_id": opened.tree.id,
            "fd": opened.handle.fd,
            "reads": opened.may_read,
            "writes": opened.may_write and not opened.write_through,
            "alone": caching.is_alone(opened),
            "channel_sequence": opened.channel_sequence,
            "position": opened.position,
            "locked": self._locked,
            "readers": self._readers,
        }
        self._known = lib.smb2_opens_add(_opens, ffi.new("struct smb2_open *", open_now))
        if not self._known:
            raise MemoryError("no memory for one more open to be served in C")

    @property
    def position(self) -> int:
        """Where the last READ ended."""
        return int(self._known.position)

    @position.setter
    def position(self, value: int) -> None:
        self._known.position = value

    @property
    def earlier_requests(self) -> int:
        """WRITEs under way with older ChannelSequences."""
        return int(self._known.earlier_requests)

    def begin_sequence(self, sequence: int) -> None:
        """Requests with another ChannelSequence go by Python from now on."""
        lib.smb2_open_advance(self._known, sequence)

    def be_alone(self, alone: bool) -> None:
        """Whether others need not be told of WRITEs, whoever caches the file's reads."""
        self._known.alone = alone

    def withdraw(self) -> None:
        """Before the descriptor is closed."""
        lib.smb2_opens_remove(_opens, self._known)


def admit(opened: Open, caching: Caching) -> None:
    """Its requests may be served in C from now on, if nothing about the open asks for more."""
    withdraw(opened)
    if type(opened.handle) is not File or opened.tree.encrypt_data:
        return
    if opened.may_read or opened.may_write:
        opened.quick = QuickOpen(opened, caching)


def withdraw(opened: Open) -> None:
    """All its requests go by Python from now on."""
    if opened.quick is not None:
        position = opened.quick.position
        opened.quick.withdraw()
        opened.quick = None
        opened.position = position


# 2. and 3. connections


class Ranges:
    """The part of a worker's pool that C moves payload by RDMA through."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.ranges = ffi.new("struct smb2_ranges *")
        self.ranges.length = LOOP_MAX
        self._held: list[tuple[PoolRange, Any]] = []
        for _ in range(min(pool.size // POOL_SHARE // LOOP_MAX, lib.SMB2_RANGES_MAX)):
            piece = pool.allocate(LOOP_MAX)
            memory = ffi.from_buffer("uint8_t[]", piece.view, require_writable=True)
            self._held.append((piece, memory))
            lib.smb2_ranges_add(self.ranges, memory, piece.offset)


def _signing_of(signer: Signer | None) -> Any:
    """A signer's key as C keeps it, NULL without one; it is Quick's to give away."""
    if signer is None:
        return ffi.NULL
    return lib.smb2_signing_create(signer.algorithm, signer.key, len(signer.key))


class Quick:
    """What C needs to serve one connection; the `Shortcut` of its channel."""

    replies = _replies_view[:0]
    frames = 0

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel = connection.channel
        self._quick = quick = ffi.new("struct smb2_connection *")
        quick.opens = _opens
        quick.replies, quick.replies_size = _replies, _REPLIES_SIZE
        self._ranges: Ranges | None = None
        self._window: Any = None
        self._staging: bytearray | None = None
        self._frames: Any = None
        """Where the staging buffer lies; there is one for each loop, and it does not move."""
        self._next_end = math.inf
        """When the first of the sessions here expires."""

    def bind(self, session: Session) -> None:
        """The session is served here, now that the connection has negotiated; again when it ends at another time."""
        quick, connection, window = self._quick, self._connection, self._connection.window
        signing = _signing_of(connection.bindings[session.id].signer)
        if session.encrypt_data or window is None or (session.signing_required and not signing):
            lib.smb2_signing_destroy(signing)
            return
        self._window = window
        quick.window = window.window
        quick.max_read_size, quick.max_write_size = (
            connection.max_read_size,
            connection.max_write_size,
        )
        quick.written_max = MAX_WRITTEN
        room = self._channel.facts.max_fragmented_send_size
        quick.max_inline = min(INLINE_MAX, max(room - 256, 0))
        quick.large_mtu = connection.large_mtu
        quick.counts_sequences = connection.counts_sequences
        lib.smb2_connection_add_session(quick, session.id, session.signing_required, signing)
        self._next_end = min(self._next_end, session.ends)

    def use(self, ranges: Ranges) -> None:
        """Payload by RDMA is served too: the pool of these ranges is attached to the channel."""
        dialect = self._connection.dialect
        if dialect is None or dialect < Dialect.SMB_3_0:
            return
        quick = self._quick
        self._ranges = ranges
        quick.ranges, quick.pool = ranges.ranges, self._channel.pool_number(ranges.pool)
        invalidates = dialect >= Dialect.SMB_3_0_2
        quick.channel_max = RdmaChannel.RDMA_V1_INVALIDATE if invalidates else RdmaChannel.RDMA_V1

    def forget(self, session: Session) -> None:
        """The session has ended or expired, or is not bound here any more."""
        lib.smb2_connection_drop_session(self._quick, session.id)

    def _forget_the_expired(self) -> None:
        self._next_end = math.inf
        for binding in self._connection.bindings.values():
            if binding.session.has_expired:
                self.forget(binding.session)
            else:
                self._next_end = min(self._next_end, binding.session.ends)

    # the channel's side

    @property
    def in_flight(self) -> int:
        return int(self._quick.in_flight)

    def serve(self, staging: bytearray, start: int, end: int) -> int:
        if self._channel.waiting_bytes > WAITING_MAX:
            return 0
        if time.time() >= self._next_end:
            self._forget_the_expired()
        quick = self._quick
        if staging is not self._staging:
            self._staging, self._frames = staging, ffi.from_buffer("uint8_t[]", staging)
        taken = int(lib.smb2_serve(quick, self._frames + start, end - start))
        if taken:
            self.replies = _replies_view[: quick.replies_length]
            self.frames = quick.frames
            if quick.failed_error:
                self._refuse()
        return taken

    def _refuse(self) -> None:
        """A WRITE failed that C had taken: the refusal follows what it made before."""
        quick, error = self._quick, self._quick.failed_error
        lost = error == errno.EPIPE  # of the payload, that is
        status = NtStatus.CONNECTION_DISCONNECTED if lost else status_of(OSError(error, ""))
        token = quick.failed_token if quick.failed_invalidates else None
        self._connection.refuse_later(
            bytes(ffi.buffer(quick.failed_header)), StatusError(status), token
        )

    def statistics(self) -> ChannelStatistics:
        quick = self._quick
        return ChannelStatistics(
            bytes_inline_sent=quick.bytes_sent,
            bytes_inline_received=quick.bytes_received,
            bytes_rdma_written=quick.bytes_written,
            bytes_rdma_read=quick.bytes_read,
            messages_sent=quick.messages_sent,
            messages_received=quick.messages_received,
        )

    def end(self) -> None:
        lib.smb2_connection_end(self._quick)
