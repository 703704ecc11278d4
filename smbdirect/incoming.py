"""What a channel receives: messages and a proxy's frames, found in the bytes of its socket.

The way of a wake-up:
  1. the socket is readable: one `recv_into` the staging buffer, behind the rest of a frame;
  2. every whole frame in it is delivered: messages copied, the proxy's frames handled in place;
  3. a message of LARGE_MESSAGE bytes or more is received straight into memory (large_message.py);
  4. what the callbacks send is gathered meanwhile, and leaves in one `sendmsg` at the end, or when it is much.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from weakref import WeakKeyDictionary

from smbdirect import frames
from smbdirect.channel_end import ChannelEnd
from smbdirect.channel_facts import ChannelFacts
from smbdirect.close_reason import CloseReason
from smbdirect.frames import FrameType
from smbdirect.large_message import LargeMessage, Place
from smbdirect.low_water import LowWater
from smbdirect.message_memory import MessageMemory
from smbdirect.outgoing import Outgoing
from smbdirect.shortcut import Shortcut
from smbdirect.transfers import Transfers

STAGING_SIZE = 256 << 10
"""Bytes received at once into the buffer that all channels of a loop share."""
LARGE_MESSAGE = 64 << 10
"""Bytes from which a message that is incomplete gets memory of its own, not a second copy."""
PEEK_SIZE = 512
"""Bytes received at first behind a large message: the next may be as large, and should not be staged."""
READ_BUDGET = 1 << 20
"""Bytes taken from one socket in one wake-up, then others have a turn."""
FRAME_BUDGET = 128
"""Frames delivered in one wake-up, then others have a turn."""

_MESSAGE_MAX = frames.LENGTH_MASK
_unpack_header = frames.HEADER.unpack_from
_pack_header = frames.HEADER.pack
_unpack_done = frames.DONE.unpack_from
_DONE_HEADER = FrameType.DONE << 24 | frames.DONE.size

_stagings: WeakKeyDictionary[asyncio.AbstractEventLoop, bytearray] = WeakKeyDictionary()
_memories: WeakKeyDictionary[asyncio.AbstractEventLoop, MessageMemory] = WeakKeyDictionary()


class Incoming:
    """The bytes on their way out of a socket. Belongs to one asyncio loop; reads nothing before `read`."""

    on_message: Callable[[memoryview], None]

    def __init__(
        self,
        sock: socket.socket,
        facts: ChannelFacts,
        initial: bytes,
        end: ChannelEnd,
        outgoing: Outgoing,
        transfers: Transfers,
        proxy_frames: Mapping[int, Callable[[memoryview], None]],
    ) -> None:
        self.limit = facts.max_fragmented_receive_size
        """Bytes of the longest message accepted."""
        self.place: Place | None = None
        self.shortcut: Shortcut | None = None
        self.messages = self.bytes = 0
        """Delivered since the start."""
        self.paused = self.delivering = False
        self.held = True
        """Nothing is delivered now: not started, paused or ended."""
        self.early: deque[memoryview] = deque()
        """Messages that came before anybody wanted them, and go first."""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._transport = facts.transport
        self._end = end
        self._outgoing = outgoing
        self._transfers = transfers
        self._proxy_frames = proxy_frames
        self._staging = _stagings.setdefault(self._loop, bytearray(STAGING_SIZE))
        self._view = memoryview(self._staging)
        self._memory = _memories.setdefault(self._loop, MessageMemory())
        self._rest = initial
        """What was received and not delivered, always less than the staging buffer holds."""
        self._backlog = bool(initial)
        """`_rest` may hold whole frames, which go first."""
        self._large: LargeMessage | None = None
        self._low_water = LowWater(sock)
        self._wanted = STAGING_SIZE
        """Bytes to receive next into the staging buffer."""
        self._ended = False

    # -- when

    def read(self) -> None:
        self.held = False
        self._loop.add_reader(self._sock, self.on_readable)
        if self._backlog or self.early:
            self._loop.call_soon(self.on_readable)

    def pause(self) -> None:
        """Nothing more is read or delivered until `resume`."""
        self.paused = True
        if not self.held and self._end.closed is None:
            self.held = True
            self._loop.remove_reader(self._sock)

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            if not self._ended:
                self.read()

    def undelivered(self, messages: Iterable[memoryview]) -> bytes:
        """`messages` as they came, and what has been read behind them."""
        stream = b"".join(_pack_header(len(message)) + bytes(message) for message in messages)
        if self._large is not None:
            self._low_water.set(1)
            stream += _pack_header(self._large.length) + self._large.so_far()
        return stream + self._rest

    def abandon(self) -> None:
        """Before the socket is closed: nothing more is delivered."""
        self._ended = self.held = True
        self._loop.remove_reader(self._sock)
        self._large = None
        self._rest = b""

    # -- bytes

    def on_readable(self) -> None:
        self.delivering = True
        self._outgoing.cork()
        try:
            while self.early and not self.held:
                self.on_message(self.early.popleft())
            budget = READ_BUDGET
            while budget > 0 and not self.held:
                taken = self._receive_frames() if self._large is None else self._receive_large()
                if not taken:
                    break
                budget -= taken
        except Exception as error:  # a callback's: where the stream stands is lost with it
            self._loop.call_exception_handler(
                {"message": "a callback of a channel failed", "exception": error}
            )
            self._end.lost(CloseReason.BY_WORKER, f"a callback failed: {error!r}")
        finally:
            self.delivering = False
            self._outgoing.uncork()

    def _receive(self, room: memoryview, unfinished: int) -> int:
        """Bytes received, 0 when there are none now or ever again."""
        try:
            taken = self._sock.recv_into(room)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            words = f"the connection broke: {error.strerror or error}"
            self._end.lost(CloseReason.PEER_LOST, words)
            return 0
        if taken:
            return taken
        if unfinished:
            self._end.lost(CloseReason.PEER_LOST, "the stream ended in the middle of a frame")
        elif self._transport == "rdma":
            self._end.lost(CloseReason.PEER_LOST, "the proxy went away without a CLOSED")
        else:
            self._end.lost(CloseReason.BY_PEER, "the peer ended the connection")
        return 0

    def _receive_frames(self) -> int:
        """One `recv_into` the staging buffer and what comes of it; 0: no more now."""
        rest = self._rest
        start = len(rest)
        if start:
            self._staging[:start] = rest
            self._rest = b""
        room = min(self._wanted, STAGING_SIZE - start)
        if self._backlog:
            self._backlog, taken = False, 0
        else:
            taken = self._receive(self._view[start : start + room], start)
            self._wanted = STAGING_SIZE
        end = start + taken
        if self.held or not end:
            return 0
        parsed = self._deliver(end)
        if parsed < end and not self._ended:
            self._rest = bytes(self._view[parsed:end])
        return taken if taken == room or self._large is not None else 0

    def _receive_large(self) -> int:
        large = self._large
        assert large is not None
        room = large.room
        taken = self._receive(room, large.length)
        if large.came(taken) and not self.held:
            self._low_water.set(1)
            self._large = None
            self._wanted = PEEK_SIZE
            self.messages += 1
            self.bytes += large.length
            self.on_message(large.delivered)
        elif not self._ended:
            self._low_water.set(len(room) - taken)
        return taken if taken == len(room) else 0

    # -- frames

    def _deliver(self, end: int) -> int:
        """Delivers the whole frames of staging[:end]; returns where what must stay begins."""
        staging, view, shortcut = self._staging, self._view, self.shortcut
        position = count = 0
        word: int
        while end - position >= 4:
            if shortcut is not None and (taken := shortcut.serve(staging, position, end)):
                after = position + taken
                count += shortcut.frames
                self._took_shortcut(shortcut)
            else:
                (word,) = _unpack_header(staging, position)
                body = position + 4
                after = body + (word & _MESSAGE_MAX)
                if word <= _MESSAGE_MAX:
                    if word > self.limit:
                        self._too_long(word)
                        return end
                    if after > end:
                        if word < LARGE_MESSAGE:
                            return position
                        self._large = LargeMessage(word, view[body:end], self._memory, self.place)
                        return end
                    self.messages += 1
                    self.bytes += word
                    self.on_message(memoryview(bytes(view[body:after])))
                elif word == _DONE_HEADER and after <= end and self._transfers.under_way:
                    self._transfers.done(*_unpack_done(staging, body))
                elif not self._proxy_frame(word >> 24, view[body:after], after, end):
                    return position
                count += 1
            position = after
            if self.held:
                self._backlog = position < end
                return position
            if count >= FRAME_BUDGET and position < end:
                self._backlog = True
                self._loop.call_soon(self.on_readable)
                return position
        return position

    def _took_shortcut(self, shortcut: Shortcut) -> None:
        if shortcut.replies:
            self._outgoing.add_now(shortcut.replies)
        if self._end.closed is not None:
            self._end.settle()

    def _too_long(self, length: int) -> None:
        self._end.lost(
            CloseReason.PROTOCOL_ERROR,
            f"the peer announced a message of {length} bytes, {self.limit} are accepted",
        )

    def _proxy_frame(self, kind: int, body: memoryview, after: int, end: int) -> bool:
        """Carries out one frame; False when it is incomplete or ended the channel."""
        handler = self._proxy_frames.get(kind)
        if handler is None:
            words = f"a frame of type {kind:#04x} has no place on {self._transport}"
            self._end.lost(CloseReason.PROTOCOL_ERROR, words)
            return False
        if after > end:
            if after - end > frames.BODY_MAX:
                words = f"a frame of type {kind:#04x} is too long"
                self._end.lost(CloseReason.PROTOCOL_ERROR, words)
            return False
        try:
            handler(body)
        except frames.Malformed as error:
            self._end.lost(CloseReason.PROTOCOL_ERROR, f"the proxy sent a bad frame: {error}")
        return not self._ended
