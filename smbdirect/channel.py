"""The worker's and the client's end of a connection, over a TCP socket or a proxy's channel.

The way of a wake-up:
  1. the socket is readable: one `recv_into` the staging buffer, behind the rest of a frame;
  2. every whole frame in it is delivered: messages copied, the proxy's frames handled in place;
  3. a message of LARGE_MESSAGE bytes or more is received straight into memory (large_message.py);
  4. what the callbacks send is gathered meanwhile, and leaves in one `sendmsg` at the end, or when it is much.
What the socket does not take waits, in order, until it is writable.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from smbdirect import frames
from smbdirect.channel_facts import ChannelFacts
from smbdirect.channel_statistics import ChannelStatistics
from smbdirect.close_reason import CloseReason
from smbdirect.frames import Access, FrameType, Status
from smbdirect.large_message import LargeMessage, Place
from smbdirect.low_water import LowWater
from smbdirect.message_memory import MessageMemory
from smbdirect.outgoing import Buffer, Outgoing
from smbdirect.pdu import BufferDescriptor
from smbdirect.pool import Pool, PoolRange
from smbdirect.rdma_write import Done, RdmaWrite
from smbdirect.shortcut import Shortcut

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
RECEIVE_QUEUE_MAX = 256
"""Messages waiting for `receive` above which nothing more is read."""
CLOSE_LINGER = 5.0
"""Seconds that a closed channel stays to send what waits and to see its transfers end."""

_MESSAGE_MAX = frames.LENGTH_MASK
_unpack_header = frames.HEADER.unpack_from
_pack_header = frames.HEADER.pack
_unpack_done = frames.DONE.unpack_from
_DONE_HEADER = FrameType.DONE << 24 | frames.DONE.size

_stagings: WeakKeyDictionary[asyncio.AbstractEventLoop, bytearray] = WeakKeyDictionary()
_memories: WeakKeyDictionary[asyncio.AbstractEventLoop, MessageMemory] = WeakKeyDictionary()


class ChannelClosed(Exception):
    """The connection has ended. `reason` is a CloseReason, `words` a sentence."""

    def __init__(self, reason: int, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words


class TransferFailed(Exception):
    """An RDMA operation, EXPOSE or POOL was not carried out. `status` is a frames.Status."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class _Transfer(NamedTuple):
    """An RDMA_WRITE, RDMA_READ or REVOKE whose DONE has not come."""

    kind: int
    piece: PoolRange | None
    done: Done | None


def _ignore(message: memoryview) -> None:
    """What a closed channel does with the messages that still come."""


class Channel:
    """A stream of SMB2 messages over a TCP socket or a proxy's Unix socket, all the same.

    Belongs to the asyncio loop in which it was made. Nothing is read before `start` or `receive`.
    """

    def __init__(self, sock: socket.socket, facts: ChannelFacts, *, initial: bytes = b"") -> None:
        """`initial` is what was read from the stream before, by whoever had the socket."""
        sock.setblocking(False)
        if facts.transport == "tcp" and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.facts = facts
        self.receive_limit = facts.max_fragmented_receive_size
        """Bytes of the longest message accepted; may be lowered for a peer not yet known."""
        self.place: Place | None = None
        """Who gives memory to the end of a large message gets only the bytes before it delivered."""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._closing: ChannelClosed | None = None
        self._ended = self._loop.create_future()
        self._linger: asyncio.TimerHandle | None = None
        self._shut = False
        # receiving
        self._staging = _stagings.setdefault(self._loop, bytearray(STAGING_SIZE))
        self._view = memoryview(self._staging)
        self._memory = _memories.setdefault(self._loop, MessageMemory())
        self._rest = initial
        """What was received and not delivered, always less than the staging buffer holds."""
        self._large: LargeMessage | None = None
        self._low_water = LowWater(sock)
        self._wanted = STAGING_SIZE
        """Bytes to receive next into the staging buffer."""
        self._backlog = bool(initial)
        """`_rest` may hold whole frames, which go first."""
        self._on_message: Callable[[memoryview], None] = self._enqueue
        self._on_closed: Callable[[ChannelClosed], None] | None = None
        self._paused = self._delivering = False
        self._held = True
        """Nothing is delivered now: not started, paused or ended."""
        self._received: deque[memoryview] = deque()
        self._early: deque[memoryview] = deque()
        """Messages that came before `start`, when `attach` read already."""
        self._receivers: deque[asyncio.Future[None]] = deque()
        self._outgoing = Outgoing(sock, self._loop, self._broken, self._settle)
        self._shortcut: Shortcut | None = None
        # the proxy
        self._operations = itertools.count(1)
        self._transfers: dict[int, _Transfer] = {}
        self._exposing: dict[int, tuple[PoolRange, asyncio.Future[BufferDescriptor]]] = {}
        self._exposed: dict[int, PoolRange] = {}
        self._invalidated: set[int] = set()
        """Tokens of `_exposed` that the peer has ended."""
        self._pools: dict[Pool, asyncio.Future[None]] = {}
        self._pool_numbers: dict[Pool, int] = {}
        self._pools_asked: deque[Pool] = deque()
        # statistics
        self._messages_sent = self._messages_received = 0
        self._inline_sent = self._inline_received = 0
        self._rdma_written = self._rdma_read = 0

    # -- life

    def start(
        self, on_message: Callable[[memoryview], None], on_closed: Callable[[ChannelClosed], None]
    ) -> None:
        """Each message goes to `on_message`, in the reader's callback, the end to `on_closed`, once."""
        if self._on_closed is not None:
            raise RuntimeError("the channel was started before")
        self._on_message, self._on_closed = on_message, on_closed
        self._early, self._received = self._received, deque()
        if self._closing is not None:
            for message in self._early:
                self._loop.call_soon(on_message, message)
            self._loop.call_soon(on_closed, self._closing)
            return
        if len(self._early) >= RECEIVE_QUEUE_MAX:
            self._paused = False  # it was `_enqueue` that paused
        if not self._paused:
            self._read()

    def shorten(self, shortcut: Shortcut) -> None:
        """From now on a shortcut sees the frames first. Before `start`, once."""
        self._shortcut = shortcut

    @property
    def closed(self) -> ChannelClosed | None:
        """Why the channel has ended or is about to; None while it lives."""
        return self._closing

    def close(self, words: str = "") -> None:
        """Ends the connection; what was sent before still leaves, transfers under way still end.

        A transfer's range is the proxy's until its DONE: for this the socket stays, at most
        CLOSE_LINGER.
        """
        if self._closing is not None:
            return
        self._closing = ChannelClosed(CloseReason.BY_WORKER, words or "closed on this side")
        self._on_message = _ignore
        self._received.clear()
        self._early.clear()
        self._outgoing.flush()
        self._settle()
        if not self._ended.done():
            self._linger = self._loop.call_later(CLOSE_LINGER, self._end)
            self._read()

    async def wait_closed(self) -> None:
        """Returns when the socket is closed, whoever ended the connection."""
        await asyncio.shield(self._ended)

    def detach(self) -> tuple[socket.socket, bytes]:
        """Gives up the socket for another process; with what was read from it and not delivered.

        Not from inside `on_message` (pause there, detach later), nor while something waits to be
        sent.
        """
        if self._closing or self._delivering or self._outgoing.waiting_bytes or self._in_flight:
            raise RuntimeError("the channel is in the middle of something and cannot be passed on")
        undelivered = [*self._early, *self._received]
        rest = b"".join(_pack_header(len(message)) + bytes(message) for message in undelivered)
        if self._large is not None:
            self._low_water.set(1)
            rest += _pack_header(self._large.length) + self._large.so_far()
        rest += self._rest
        self._loop.remove_reader(self._sock)
        sock = self._sock.dup()
        sock.setblocking(False)
        self._lost(CloseReason.BY_WORKER, "the socket was passed on")
        return sock, rest

    def statistics(self) -> ChannelStatistics:
        own = ChannelStatistics(
            self._inline_sent,
            self._inline_received,
            self._rdma_written,
            self._rdma_read,
            self._messages_sent,
            self._messages_received,
        )
        return own if self._shortcut is None else own + self._shortcut.statistics()

    @property
    def _in_flight(self) -> bool:
        """Whether the proxy has not said DONE to everything yet."""
        return bool(self._transfers or (self._shortcut is not None and self._shortcut.in_flight))

    def _lost(self, reason: int, words: str) -> None:
        if self._closing is None:
            self._closing = ChannelClosed(reason, words)
        self._end()

    def _settle(self) -> None:
        """Goes on with closing as far as what waits and what is under way allow."""
        if self._closing is None or self._outgoing.waiting_bytes or self._ended.done():
            return
        if not self._in_flight:
            self._end()
        elif not self._shut:
            self._shut = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._end()

    def _end(self) -> None:
        """Closes the socket and tells everybody who waits."""
        if self._ended.done():
            return
        closing = self._closing
        assert closing is not None
        self._ended.set_result(None)
        self._held = True
        if self._linger is not None:
            self._linger.cancel()
        self._loop.remove_reader(self._sock)
        self._outgoing.abandon()
        self._sock.close()
        self._large = None
        self._rest = b""
        if self._shortcut is not None:
            self._shortcut.end()
        self._abandon(closing)
        if self._on_closed is not None:
            self._loop.call_soon(self._on_closed, closing)

    def _abandon(self, closing: ChannelClosed) -> None:
        """Ends what waited for the socket, each in the way of its kind."""
        for transfer in self._transfers.values():
            if transfer.piece is not None:
                transfer.piece.end_transfer()
            if transfer.done is not None:
                self._loop.call_soon(transfer.done, Status.ENDED, 0)
        self._transfers.clear()
        for piece, _ in self._exposing.values():
            piece.end_transfer()
        for piece in self._exposed.values():
            piece.end_transfer()
        self._exposed.clear()
        self._invalidated.clear()
        waiters: list[asyncio.Future[Any]] = [answer for _, answer in self._exposing.values()]
        for waiter in waiters + list(self._pools.values()):
            if not waiter.done():
                waiter.set_exception(ChannelClosed(closing.reason, closing.words))
                waiter.exception()  # whoever awaited it sees it; nobody is not an error
        self._exposing.clear()
        self._wake_receivers()

    def _wake_receivers(self) -> None:
        for receiver in self._receivers:
            if not receiver.done():
                receiver.set_result(None)
        self._receivers.clear()

    # -- receiving

    async def receive(self) -> memoryview:
        """The next message; for programs that ask instead of being called. Raises ChannelClosed."""
        if self._on_closed is None:
            self.start(self._enqueue, lambda closed: self._wake_receivers())
        while not self._received:
            if self._closing is not None:
                raise ChannelClosed(self._closing.reason, self._closing.words)
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._receivers.append(waiter)
            await waiter
        message = self._received.popleft()
        if self._received:
            self._wake_receivers()
        if self._paused and len(self._received) < RECEIVE_QUEUE_MAX // 2:
            self.resume_reading()
        return message

    def _enqueue(self, message: memoryview) -> None:
        self._received.append(message)
        self._wake_receivers()
        if len(self._received) >= RECEIVE_QUEUE_MAX:
            self.pause_reading()

    def pause_reading(self) -> None:
        """Nothing more is read or delivered until `resume_reading`."""
        self._paused = True
        if not self._held and self._closing is None:
            self._held = True
            self._loop.remove_reader(self._sock)

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not self._ended.done():
                self._read()

    def _read(self) -> None:
        self._held = False
        self._loop.add_reader(self._sock, self._on_readable)
        if self._backlog or self._early:
            self._loop.call_soon(self._on_readable)

    def _on_readable(self) -> None:
        self._delivering = True
        self._outgoing.cork()
        try:
            while self._early and not self._held:
                self._on_message(self._early.popleft())
            budget = READ_BUDGET
            while budget > 0 and not self._held:
                taken = self._receive_frames() if self._large is None else self._receive_large()
                if not taken:
                    break
                budget -= taken
        except Exception as error:  # a callback's: where the stream stands is lost with it
            self._loop.call_exception_handler(
                {"message": "a callback of a channel failed", "exception": error}
            )
            self._lost(CloseReason.BY_WORKER, f"a callback failed: {error!r}")
        finally:
            self._delivering = False
            self._outgoing.uncork()

    def _receive(self, room: memoryview, unfinished: int) -> int:
        """Bytes received, 0 when there are none now or ever again."""
        try:
            taken = self._sock.recv_into(room)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._lost(CloseReason.PEER_LOST, f"the connection broke: {error.strerror or error}")
            return 0
        if taken:
            return taken
        if unfinished:
            self._lost(CloseReason.PEER_LOST, "the stream ended in the middle of a frame")
        elif self.facts.transport == "rdma":
            self._lost(CloseReason.PEER_LOST, "the proxy went away without a CLOSED")
        else:
            self._lost(CloseReason.BY_PEER, "the peer ended the connection")
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
        if self._held or not end:
            return 0
        parsed = self._deliver(end)
        if parsed < end and not self._ended.done():
            self._rest = bytes(self._view[parsed:end])
        return taken if taken == room or self._large is not None else 0

    def _deliver(self, end: int) -> int:
        """Delivers the whole frames of staging[:end]; returns where what must stay begins."""
        staging, view, shortcut = self._staging, self._view, self._shortcut
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
                    if word > self.receive_limit:
                        self._too_long(word)
                        return end
                    if after > end:
                        if word < LARGE_MESSAGE:
                            return position
                        self._large = LargeMessage(word, view[body:end], self._memory, self.place)
                        return end
                    self._messages_received += 1
                    self._inline_received += word
                    self._on_message(memoryview(bytes(view[body:after])))
                elif word == _DONE_HEADER and after <= end and self._transfers:
                    self._done(*_unpack_done(staging, body))
                elif not self._proxy_frame(word >> 24, view[body:after], after, end):
                    return position
                count += 1
            position = after
            if self._held:
                self._backlog = position < end
                return position
            if count >= FRAME_BUDGET and position < end:
                self._backlog = True
                self._loop.call_soon(self._on_readable)
                return position
        return position

    def _took_shortcut(self, shortcut: Shortcut) -> None:
        if shortcut.replies:
            self._outgoing.add_now(shortcut.replies)
        if self._closing is not None:
            self._settle()

    def _receive_large(self) -> int:
        large = self._large
        assert large is not None
        room = large.room
        taken = self._receive(room, large.length)
        if large.came(taken) and not self._held:
            self._low_water.set(1)
            self._large = None
            self._wanted = PEEK_SIZE
            self._messages_received += 1
            self._inline_received += large.length
            self._on_message(large.delivered)
        elif not self._ended.done():
            self._low_water.set(len(room) - taken)
        return taken if taken == len(room) else 0

    def _too_long(self, length: int) -> None:
        self._lost(
            CloseReason.PROTOCOL_ERROR,
            f"the peer announced a message of {length} bytes, {self.receive_limit} are accepted",
        )

    # -- frames of the proxy

    def _proxy_frame(self, kind: int, body: memoryview, after: int, end: int) -> bool:
        """Carries out one frame; False when it is incomplete or ended the channel."""
        handler = None if self.facts.transport == "tcp" else _HANDLERS.get(kind)
        if handler is None:
            words = f"a frame of type {kind:#04x} has no place on {self.facts.transport}"
            self._lost(CloseReason.PROTOCOL_ERROR, words)
            return False
        if after > end:
            if after - end > frames.BODY_MAX:
                self._lost(CloseReason.PROTOCOL_ERROR, f"a frame of type {kind:#04x} is too long")
            return False
        try:
            handler(self, body)
        except frames.Malformed as error:
            self._lost(CloseReason.PROTOCOL_ERROR, f"the proxy sent a bad frame: {error}")
        return not self._ended.done()

    def _on_done(self, body: memoryview) -> None:
        done = frames.Done.parse(body)
        self._done(done.operation, done.status, 0, done.moved)

    def _done(self, operation: int, status: int, _: int, moved: int) -> None:
        transfer = self._transfers.pop(operation, None)
        if transfer is None:
            words = f"the proxy sent DONE of operation {operation}, which is not under way"
            self._lost(CloseReason.PROTOCOL_ERROR, words)
            return
        kind, piece, done = transfer
        if kind == FrameType.RDMA_WRITE:
            self._rdma_written += moved
        elif kind == FrameType.RDMA_READ:
            self._rdma_read += moved
        if piece is not None:
            piece.end_transfer()
        if done is not None:
            done(status, moved)
        self._settle()

    def _on_pool_ready(self, body: memoryview) -> None:
        ready = frames.PoolReady.parse(body)
        if not self._pools_asked:
            raise frames.Malformed("POOL_READY without a POOL")
        pool = self._pools_asked.popleft()
        answer = self._pools[pool]
        if ready.status:
            del self._pools[pool]
            if not answer.done():
                answer.set_exception(TransferFailed(ready.status, ready.words))
        else:
            self._pool_numbers[pool] = ready.pool
            if not answer.done():
                answer.set_result(None)

    def _on_exposed(self, body: memoryview) -> None:
        exposed = frames.Exposed.parse(body)
        if exposed.operation not in self._exposing:
            raise frames.Malformed(f"EXPOSED of the unknown operation {exposed.operation}")
        piece, answer = self._exposing.pop(exposed.operation)
        if exposed.status:
            piece.end_transfer()
            if not answer.done():
                words = f"EXPOSE: {frames.status_words(exposed.status)}"
                answer.set_exception(TransferFailed(exposed.status, words))
            return
        self._exposed[exposed.descriptor.token] = piece
        if answer.done():  # whoever asked was cancelled meanwhile
            self._revoke(exposed.descriptor, None)
        else:
            answer.set_result(exposed.descriptor)

    def _on_invalidated(self, body: memoryview) -> None:
        token = frames.Invalidated.parse(body).token
        if token in self._exposed:
            self._invalidated.add(token)

    def _on_closed_frame(self, body: memoryview) -> None:
        closed = frames.Closed.parse(body)
        self._lost(closed.reason, closed.words or "the proxy closed the channel")

    # -- RDMA

    async def attach(self, pool: Pool) -> None:
        """Makes the pool's memory known to the proxy, once; further calls wait for the first."""
        if self.facts.transport == "tcp":
            raise ValueError("a TCP connection has no use for a pool")
        if pool.closed:
            raise ValueError("the pool was closed")
        answer = self._pools.get(pool)
        if answer is None:
            answer = self._pools[pool] = self._loop.create_future()
            if self._held and not self._paused and self._closing is None:
                self._read()  # not started yet: what comes besides the answer is kept
            try:
                await self._send_pool(pool)
            except BaseException as error:
                self._pools.pop(pool, None)
                if not answer.done():
                    answer.set_exception(ChannelClosed(CloseReason.BY_WORKER, str(error)))
                    answer.exception()
                raise
        await asyncio.shield(answer)

    async def _send_pool(self, pool: Pool) -> None:
        """The descriptor goes with the frame's first byte: nothing may stand before it."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [pool.fd]))]
        while True:
            if self._closing is not None:
                raise ChannelClosed(self._closing.reason, self._closing.words)
            self._outgoing.flush()
            if not self._outgoing.waiting_bytes:
                try:
                    self._sock.sendmsg([frames.Pool(pool.size).pack()], rights)
                except (BlockingIOError, InterruptedError):
                    self._outgoing.block()
                except OSError as error:
                    self._lost(CloseReason.PEER_LOST, f"the connection broke: {error.strerror}")
                    continue
                else:
                    self._pools_asked.append(pool)
                    return
            await self._outgoing.progress()

    def rdma_write(self, piece: PoolRange, length: int, descriptors: Buffer) -> asyncio.Future[int]:
        """From the pool to the peer's buffers; the bytes moved. TransferFailed or ChannelClosed."""
        return self._transfer(FrameType.RDMA_WRITE, piece, length, descriptors)

    def rdma_read(self, piece: PoolRange, length: int, descriptors: Buffer) -> asyncio.Future[int]:
        """From the peer's buffers to the pool; the bytes moved. TransferFailed or ChannelClosed."""
        return self._transfer(FrameType.RDMA_READ, piece, length, descriptors)

    def fetch(self, piece: PoolRange, length: int, descriptors: Buffer, done: Done) -> None:
        """`rdma_read` for those who are called instead: `done` gets status and bytes moved."""
        if self._closing is not None:
            self._loop.call_soon(done, Status.ENDED, 0)
            return
        frame = self._begin_transfer(FrameType.RDMA_READ, piece, length, descriptors, done)
        self._outgoing.add(frame)

    def _transfer(
        self, kind: FrameType, piece: PoolRange, length: int, descriptors: Buffer
    ) -> asyncio.Future[int]:
        future: asyncio.Future[int] = self._loop.create_future()
        if self._closing is not None:
            future.set_exception(ChannelClosed(self._closing.reason, self._closing.words))
            return future

        def done(status: int, moved: int) -> None:
            if future.done():
                return
            if status == Status.DONE:
                future.set_result(moved)
            elif self._closing is not None:
                future.set_exception(ChannelClosed(self._closing.reason, self._closing.words))
            else:
                words = f"{kind.name} of {length} bytes: {frames.status_words(status)}"
                future.set_exception(TransferFailed(status, words))

        self._outgoing.add(self._begin_transfer(kind, piece, length, descriptors, done))
        return future

    def _begin_transfer(
        self,
        kind: int,
        piece: PoolRange,
        length: int,
        descriptors: Buffer,
        done: Done | None,
    ) -> bytes:
        """The frame of a transfer, which counts as under way from now on."""
        number = self._pool_numbers.get(piece.pool)
        if number is None:
            raise ValueError("the range's pool was not attached to this channel")
        if length > piece.length:
            raise ValueError(f"{length} bytes do not fit into a range of {piece.length}")
        operation = next(self._operations)
        frame = frames.pack_rdma(kind, operation, number, piece.offset, length, descriptors)
        piece.begin_transfer()
        self._transfers[operation] = _Transfer(kind, piece, done)
        return frame

    def pool_number(self, pool: Pool) -> int:
        """What the proxy calls an attached pool in this channel's frames."""
        return self._pool_numbers[pool]

    async def expose(self, piece: PoolRange, access: Access) -> BufferDescriptor:
        """Client role: lets the peer read or write the range, which stays taken, until `revoke`."""
        if self._closing is not None:
            raise ChannelClosed(self._closing.reason, self._closing.words)
        number = self._pool_numbers.get(piece.pool)
        if number is None:
            raise ValueError("the range's pool was not attached to this channel")
        operation = next(self._operations)
        answer: asyncio.Future[BufferDescriptor] = self._loop.create_future()
        self._exposing[operation] = piece, answer
        piece.begin_transfer()
        self._outgoing.add(
            frames.Expose(operation, number, access, piece.offset, piece.length).pack()
        )
        return await answer

    async def revoke(self, descriptor: BufferDescriptor) -> None:
        """From the return on the peer cannot touch the range; nor after the channel's end."""
        if self._closing is not None:
            return
        if descriptor.token in self._invalidated:  # the peer did it: nothing to wait for
            self._invalidated.remove(descriptor.token)
            self._revoke(descriptor, None)
            return
        future: asyncio.Future[None] = self._loop.create_future()

        def done(status: int, _: int) -> None:
            if future.done():
                return
            if status == Status.DONE or self._closing is not None:
                future.set_result(None)
            else:
                words = f"REVOKE: {frames.status_words(status)}"
                future.set_exception(TransferFailed(status, words))

        self._revoke(descriptor, done)
        await future

    def _revoke(self, descriptor: BufferDescriptor, done: Done | None) -> None:
        operation = next(self._operations)
        piece = self._exposed.pop(descriptor.token, None)
        self._transfers[operation] = _Transfer(FrameType.REVOKE, piece, done)
        self._outgoing.add(frames.Revoke(operation, descriptor.token).pack())

    # -- sending

    def send(
        self,
        *parts: Buffer,
        writes: Sequence[RdmaWrite] = (),
        invalidate: int | None = None,
        sent: Callable[[], None] | None = None,
    ) -> None:
        """One SMB2 message made of `parts`, after its `writes`; with `invalidate` it revokes that token.

        Long parts are not copied: they must not change before `sent` is called. A closed channel
        swallows everything, and still calls `sent` and the writes' `done`.
        """
        if self._closing is not None:
            self._swallow(writes, sent)
            return
        length = 0
        for part in parts:
            length += len(part)
        if length > self.facts.max_fragmented_send_size:
            limit = self.facts.max_fragmented_send_size
            raise ValueError(f"a message of {length} bytes: the peer takes {limit}")
        head = _pack_header(length)
        if invalidate is not None:
            head = frames.SendInvalidate(invalidate).pack() + head
        by_rdma = 0
        if writes:
            head = b"".join([self._begin_write(write) for write in writes]) + head
            by_rdma = sum(write.length for write in writes)
        self._messages_sent += 1
        self._inline_sent += length
        self._outgoing.add(head, parts, length, sent, by_rdma)

    def _begin_write(self, write: RdmaWrite) -> bytes:
        return self._begin_transfer(
            FrameType.RDMA_WRITE, write.piece, write.length, write.descriptors, write.done
        )

    def _swallow(self, writes: Sequence[RdmaWrite], sent: Callable[[], None] | None) -> None:
        for write in writes:
            if write.done is not None:
                self._loop.call_soon(write.done, Status.ENDED, 0)
        if sent is not None:
            self._loop.call_soon(sent)

    def cork(self) -> None:
        """What is sent from now on waits for `uncork`, to leave in one piece. Nests."""
        self._outgoing.cork()

    def uncork(self) -> None:
        self._outgoing.uncork()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were sent but that the socket has not taken yet."""
        return self._outgoing.waiting_bytes

    @property
    def tcp_socket(self) -> socket.socket | None:
        """For who asks TCP about the path; None on a proxy's Unix socket, and when closed."""
        unix = self._sock.family == socket.AF_UNIX
        return None if unix or self._closing is not None else self._sock

    async def drain(self) -> None:
        """Waits while more than SEND_HIGH_WATER bytes wait for the socket."""
        await self._outgoing.drain()

    def _broken(self, error: OSError) -> None:
        """Nothing can be sent; what the peer sent before (CLOSED with the reason) is still read."""
        words = f"the connection broke: {error.strerror or error}"
        if self._held:
            self._lost(CloseReason.PEER_LOST, words)
        else:
            self._loop.call_soon(self._lost_after_reading, words)

    def _lost_after_reading(self, words: str) -> None:
        if not self._ended.done():
            self._on_readable()
            self._lost(CloseReason.PEER_LOST, words)


_HANDLERS: dict[int, Callable[[Channel, memoryview], None]] = {
    FrameType.DONE: Channel._on_done,
    FrameType.POOL_READY: Channel._on_pool_ready,
    FrameType.EXPOSED: Channel._on_exposed,
    FrameType.CLOSED: Channel._on_closed_frame,
    FrameType.INVALIDATED: Channel._on_invalidated,
}
"""What each frame of a proxy does."""
