"""READs that are answered in C, without Python (csrc/smb2_reader.h): the opens they may touch, a reader per connection.

1. the first request that names an open admits it, if its data needs nothing but its descriptor; its end withdraws it;
2. a session that is bound to a connection is served there, unless its requests must be signed or sealed;
3. the channel shows every frame to the connection's reader first (`smbdirect.channel.Shortcut`); what the reader
   does not take comes to `commands/read.py` as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smbdirect.channel_statistics import ChannelStatistics
from smbserver import locks
from smbserver._smb2 import ffi, lib
from smbserver.payload import LOOP_MAX, SENT_MIN
from smbserver.vfs.file import File
from smbserver.wire.negotiate import Dialect
from smbserver.wire.rdma_channel import RdmaChannel

if TYPE_CHECKING:
    from smbdirect.pool import Pool, PoolRange
    from smbserver.connection import Connection
    from smbserver.open import Open
    from smbserver.session import Session

INLINE_MAX = SENT_MIN - 1
"""Bytes of payload that are copied into a reply; what is longer is cheaper sent from where it lies."""

WAITING_MAX = 1 << 20
"""Bytes that wait for a client who does not read; beyond, its requests go the long way, which has a bound."""

POOL_SHARE = 4
"""The part of the pool that is kept for READs: one fourth. WRITEs and long READs use the rest."""

_REPLIES_SIZE = 512 << 10
"""Bytes of the memory that all connections make their replies in, one after the other."""

_replies = ffi.new("uint8_t[]", _REPLIES_SIZE)
_replies_view = memoryview(ffi.buffer(_replies))
_opens = ffi.gc(lib.smb2_opens_create(), lib.smb2_opens_destroy)


# 1. opens


class QuickOpen:
    """What C knows of an open, until `withdraw`."""

    __slots__ = ("_known", "_locked")

    def __init__(self, opened: Open) -> None:
        self._locked = ffi.from_buffer("uint32_t[]", locks.hint_of(opened))
        open_now = {
            "session_id": opened.tree.session.id,
            "persistent_id": opened.persistent_id,
            "volatile_id": opened.volatile_id,
            "tree_id": opened.tree.id,
            "fd": opened.handle.fd,
            "channel_sequence": opened.channel_sequence,
            "position": opened.position,
            "locked": self._locked,
        }
        self._known = lib.smb2_opens_add(_opens, ffi.new("struct smb2_open *", open_now))
        if not self._known:
            raise MemoryError("no memory for one more open")

    @property
    def position(self) -> int:
        return int(self._known.position)

    @position.setter
    def position(self, value: int) -> None:
        self._known.position = value

    def begin_sequence(self, sequence: int) -> None:
        """Requests with another ChannelSequence go by Python from now on."""
        self._known.channel_sequence = sequence

    def withdraw(self) -> None:
        """Before the descriptor is closed."""
        lib.smb2_opens_remove(_opens, self._known)


def admit(opened: Open) -> None:
    """Its READs may be answered in C from now on, if nothing about the open asks for more."""
    withdraw(opened)
    if opened.may_read and type(opened.handle) is File and not opened.tree.encrypt_data:
        opened.quick = QuickOpen(opened)


def withdraw(opened: Open) -> None:
    """All its READs go by Python from now on."""
    if opened.quick is not None:
        position = opened.quick.position
        opened.quick.withdraw()
        opened.quick = None
        opened.position = position


# 2. and 3. connections


class Ranges:
    """The part of a worker's pool that READs by RDMA are read into."""

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


class QuickReads:
    """What one connection's READs need; a `Shortcut` of its channel."""

    replies = _replies_view[:0]
    frames = 0

    def __init__(self, connection: Connection) -> None:
        self._channel = connection.channel
        self._reader = reader = ffi.new("struct smb2_reader *")
        reader.opens = _opens
        reader.replies, reader.replies_size = _replies, _REPLIES_SIZE
        self._ranges: Ranges | None = None
        self._window: Any = None
        self._staging: bytearray | None = None
        self._frames: Any = None
        """Where the staging buffer lies; there is one for each loop, and it does not move."""

    def bind(self, connection: Connection, session: Session) -> None:
        """The session's READs are served here, now that the connection has negotiated."""
        reader, window = self._reader, connection.window
        if session.signing_required or session.encrypt_data or window is None:
            return
        self._window = window
        reader.window = window.window
        reader.max_read_size = connection.max_read_size
        room = self._channel.facts.max_fragmented_send_size
        reader.max_inline = min(INLINE_MAX, max(room - 256, 0))
        reader.large_mtu = connection.large_mtu
        reader.counts_sequences = connection.counts_sequences
        lib.smb2_reader_add_session(reader, session.id)

    def use(self, ranges: Ranges, dialect: Dialect | None) -> None:
        """READs by RDMA are served too: the pool of these ranges is attached to the channel."""
        if dialect is None or dialect < Dialect.SMB_3_0:
            return
        reader = self._reader
        self._ranges = ranges
        reader.ranges, reader.pool = ranges.ranges, self._channel.pool_number(ranges.pool)
        invalidates = dialect >= Dialect.SMB_3_0_2
        reader.channel_max = RdmaChannel.RDMA_V1_INVALIDATE if invalidates else RdmaChannel.RDMA_V1

    def forget(self, session: Session) -> None:
        """The session has ended, or is not bound here any more."""
        lib.smb2_reader_drop_session(self._reader, session.id)

    # the channel's side

    @property
    def in_flight(self) -> int:
        return int(self._reader.in_flight)

    def serve(self, staging: bytearray, start: int, end: int) -> int:
        if self._channel.waiting_bytes > WAITING_MAX:
            return 0
        reader = self._reader
        if staging is not self._staging:
            self._staging, self._frames = staging, ffi.from_buffer("uint8_t[]", staging)
        taken = int(lib.smb2_reader_serve(reader, self._frames + start, end - start))
        if taken:
            self.replies = _replies_view[: reader.replies_length]
            self.frames = reader.frames
        return taken

    def statistics(self) -> ChannelStatistics:
        reader = self._reader
        return ChannelStatistics(
            bytes_inline_sent=reader.bytes_sent,
            bytes_inline_received=reader.bytes_received,
            bytes_rdma_written=reader.bytes_placed,
            bytes_rdma_read=0,
            messages_sent=reader.messages,
            messages_received=reader.messages,
        )

    def end(self) -> None:
        lib.smb2_reader_end(self._reader)
