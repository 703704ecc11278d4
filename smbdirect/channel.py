"""The worker's and the client's end of a connection, over a TCP socket or a proxy's channel.

incoming.py        bytes out of the socket, and the messages and frames in them; inbox.py for who asks
outgoing.py        messages and frames, and their bytes into the socket
attached_pools.py  memory that the proxy knows
transfers.py       RDMA from and to that memory
exposures.py       client role: memory that the peer may read or write
channel_end.py     how all this ends
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from smbdirect import frames
from smbdirect.attached_pools import AttachedPools
from smbdirect.channel_end import ChannelClosed, ChannelEnd
from smbdirect.channel_facts import ChannelFacts
from smbdirect.channel_statistics import ChannelStatistics
from smbdirect.close_reason import CloseReason
from smbdirect.exposures import Exposures
from smbdirect.frames import Access, FrameType, Status
from smbdirect.inbox import Inbox
from smbdirect.incoming import Incoming
from smbdirect.large_message import Place
from smbdirect.outgoing import Buffer, Outgoing
from smbdirect.pdu import BufferDescriptor
from smbdirect.pool import Pool, PoolRange
from smbdirect.rdma_write import Done, RdmaWrite
from smbdirect.shortcut import Shortcut
from smbdirect.transfers import Transfers

CLOSE_LINGER = 5.0
"""Seconds that a closed channel stays to send what waits and to see its transfers end."""

_pack_header = frames.HEADER.pack


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
        self._sock = sock
        self._loop = loop = asyncio.get_running_loop()
        self._end = end = ChannelEnd(self._lost, self._settle)
        self._ended = loop.create_future()
        self._linger: asyncio.TimerHandle | None = None
        self._shut = False
        self._on_closed: Callable[[ChannelClosed], None] | None = None
        self._messages_sent = self._inline_sent = 0
        self._outgoing = outgoing = Outgoing(sock, loop, self._broken, self._settle)
        self._pools = pools = AttachedPools(sock, end, outgoing)
        self._transfers = transfers = Transfers(loop, end, outgoing, pools.numbers)
        self._exposures = Exposures(end, outgoing, transfers, pools.numbers)
        self._incoming = Incoming(
            sock, facts, initial, end, outgoing, transfers, self._proxy_frames()
        )
        self._inbox = Inbox(end, self._incoming)
        self._incoming.on_message = self._inbox.put

    def _proxy_frames(self) -> dict[int, Callable[[memoryview], None]]:
        """What each frame of a proxy does."""
        if self.facts.transport == "tcp":
            return {}
        return {
            FrameType.DONE: self._transfers.on_done,
            FrameType.POOL_READY: self._pools.on_ready,
            FrameType.EXPOSED: self._exposures.on_exposed,
            FrameType.INVALIDATED: self._exposures.on_invalidated,
            FrameType.CLOSED: self._on_closed_frame,
        }

    # -- life

    def start(
        self, on_message: Callable[[memoryview], None], on_closed: Callable[[ChannelClosed], None]
    ) -> None:
        """Each message goes to `on_message`, in the reader's callback, the end to `on_closed`, once."""
        if self._on_closed is not None:
            raise RuntimeError("the channel was started before")
        incoming = self._incoming
        incoming.on_message, self._on_closed = on_message, on_closed
        incoming.early = self._inbox.empty()
        if self._end.closed is not None:
            for message in incoming.early:
                self._loop.call_soon(on_message, message)
            self._loop.call_soon(on_closed, self._end.closed)
            return
        if not incoming.paused:
            incoming.read()

    def shorten(self, shortcut: Shortcut) -> None:
        """From now on a shortcut sees the frames first. Before `start`, once."""
        self._incoming.shortcut = shortcut

    @property
    def closed(self) -> ChannelClosed | None:
        """Why the channel has ended or is about to; None while it lives."""
        return self._end.closed

    def close(self, words: str = "") -> None:
        """Ends the connection; what was sent before still leaves, transfers under way still end.

        A transfer's range is the proxy's until its DONE: for this the socket stays, at most
        CLOSE_LINGER.
        """
        if self._end.closed is not None:
            return
        self._end.closed = ChannelClosed(CloseReason.BY_WORKER, words or "closed on this side")
        self._incoming.on_message = _ignore
        self._incoming.early.clear()
        self._inbox.empty()
        self._outgoing.flush()
        self._settle()
        if not self._ended.done():
            self._linger = self._loop.call_later(CLOSE_LINGER, self._close_socket)
            self._incoming.read()

    async def wait_closed(self) -> None:
        """Returns when the socket is closed, whoever ended the connection."""
        await asyncio.shield(self._ended)

    def detach(self) -> tuple[socket.socket, bytes]:
        """Gives up the socket for another process; with what was read from it and not delivered.

        Not from inside `on_message` (pause there, detach later), nor while something waits to be
        sent.
        """
        incoming = self._incoming
        busy = incoming.delivering or self._outgoing.waiting_bytes or self._in_flight
        if self._end.closed is not None or busy:
            raise RuntimeError("the channel is in the middle of something and cannot be passed on")
        rest = incoming.undelivered([*incoming.early, *self._inbox.empty()])
        self._loop.remove_reader(self._sock)
        sock = self._sock.dup()
        sock.setblocking(False)
        self._lost(CloseReason.BY_WORKER, "the socket was passed on")
        return sock, rest

    def statistics(self) -> ChannelStatistics:
        own = ChannelStatistics(
            self._inline_sent,
            self._incoming.bytes,
            self._transfers.written,
            self._transfers.read,
            self._messages_sent,
            self._incoming.messages,
        )
        shortcut = self._incoming.shortcut
        return own if shortcut is None else own + shortcut.statistics()

    @property
    def _in_flight(self) -> bool:
        """Whether the proxy has not said DONE to everything yet."""
        shortcut = self._incoming.shortcut
        return bool(self._transfers.under_way or (shortcut is not None and shortcut.in_flight))

    def _on_closed_frame(self, body: memoryview) -> None:
        closed = frames.Closed.parse(body)
        self._lost(closed.reason, closed.words or "the proxy closed the channel")

    def _broken(self, error: OSError) -> None:
        """Nothing can be sent; what the peer sent before (CLOSED with the reason) is still read."""
        words = f"the connection broke: {error.strerror or error}"
        if self._incoming.held:
            self._lost(CloseReason.PEER_LOST, words)
        else:
            self._loop.call_soon(self._lost_after_reading, words)

    def _lost_after_reading(self, words: str) -> None:
        if not self._ended.done():
            self._incoming.on_readable()
            self._lost(CloseReason.PEER_LOST, words)

    def _lost(self, reason: int, words: str) -> None:
        if self._end.closed is None:
            self._end.closed = ChannelClosed(reason, words)
        self._close_socket()

    def _settle(self) -> None:
        """Goes on with closing as far as what waits and what is under way allow."""
        if self._end.closed is None or self._outgoing.waiting_bytes or self._ended.done():
            return
        if not self._in_flight:
            self._close_socket()
        elif not self._shut:
            self._shut = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._close_socket()

    def _close_socket(self) -> None:
        """And tells everybody who waits for something from it, each in the way of its kind."""
        if self._ended.done():
            return
        self._ended.set_result(None)
        if self._linger is not None:
            self._linger.cancel()
        self._incoming.abandon()
        self._outgoing.abandon()
        self._sock.close()
        if self._incoming.shortcut is not None:
            self._incoming.shortcut.end()
        self._transfers.abandon()
        self._exposures.abandon()
        self._pools.abandon()
        self._inbox.wake()
        if self._on_closed is not None:
            assert self._end.closed is not None
            self._loop.call_soon(self._on_closed, self._end.closed)

    # -- receiving

    async def receive(self) -> memoryview:
        """The next message; for programs that ask instead of being called. Raises ChannelClosed."""
        if self._on_closed is None:
            self.start(self._inbox.put, lambda closed: self._inbox.wake())
        return await self._inbox.receive()

    def limit_messages(self, length: int) -> None:
        """Nothing longer is accepted from a peer not yet known; never more than the facts say."""
        self._incoming.limit = min(length, self.facts.max_fragmented_receive_size)

    def place_messages(self, place: Place) -> None:
        """`place` gives memory to the ends of large messages; only the bytes before are delivered."""
        self._incoming.place = place

    def pause_reading(self) -> None:
        """Nothing more is read or delivered until `resume_reading`."""
        self._incoming.pause()

    def resume_reading(self) -> None:
        self._incoming.resume()

    # -- RDMA

    async def attach(self, pool: Pool) -> None:
        """Makes the pool's memory known to the proxy, once; further calls wait for the first."""
        if self.facts.transport == "tcp":
            raise ValueError("a TCP connection has no use for a pool")
        if pool.closed:
            raise ValueError("the pool was closed")
        if self._incoming.held and not self._incoming.paused and self._end.closed is None:
            self._incoming.read()  # not started yet: what comes besides the answer is kept
        await self._pools.attach(pool)

    def pool_number(self, pool: Pool) -> int:
        """What the proxy calls an attached pool in this channel's frames."""
        return self._pools.numbers[pool]

    def rdma_write(self, piece: PoolRange, length: int, descriptors: Buffer) -> asyncio.Future[int]:
        """From the pool to the peer's buffers; the bytes moved. TransferFailed or ChannelClosed."""
        return self._transfers.start(FrameType.RDMA_WRITE, piece, length, descriptors)

    def rdma_read(self, piece: PoolRange, length: int, descriptors: Buffer) -> asyncio.Future[int]:
        """From the peer's buffers to the pool; the bytes moved. TransferFailed or ChannelClosed."""
        return self._transfers.start(FrameType.RDMA_READ, piece, length, descriptors)

    def fetch(self, piece: PoolRange, length: int, descriptors: Buffer, done: Done) -> None:
        """`rdma_read` for those who are called instead: `done` gets status and bytes moved."""
        if self._end.closed is not None:
            self._loop.call_soon(done, Status.ENDED, 0)
            return
        frame = self._transfers.begin(FrameType.RDMA_READ, piece, length, descriptors, done)
        self._outgoing.add(frame)

    async def expose(self, piece: PoolRange, access: Access) -> BufferDescriptor:
        """Client role: lets the peer read or write the range, which stays taken, until `revoke`."""
        return await self._exposures.expose(piece, access)

    async def revoke(self, descriptor: BufferDescriptor) -> None:
        """From the return on the peer cannot touch the range; nor after the channel's end."""
        await self._exposures.revoke(descriptor)

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
        if self._end.closed is not None:
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
            begin = self._transfers.begin_write
            head = b"".join([begin(write) for write in writes]) + head
            by_rdma = sum(write.length for write in writes)
        self._messages_sent += 1
        self._inline_sent += length
        self._outgoing.add(head, parts, length, sent, by_rdma)

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
        return None if unix or self._end.closed is not None else self._sock

    async def drain(self) -> None:
        """Waits while more than SEND_HIGH_WATER bytes wait for the socket."""
        await self._outgoing.drain()
