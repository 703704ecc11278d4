"""What a channel sends: gathered while corked, then written in one `sendmsg`; the rest waits.

A cork holds back what is little. As soon as it is worth a system call of its own it leaves: the peer works on it
while more is made, and memory that was just filled is sent while it is still in the cache.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections import deque
from collections.abc import Callable

from smbdirect.file_window import is_cut, rescue

Buffer = bytes | bytearray | memoryview

JOIN_BELOW = 16 << 10
"""Parts shorter than this are copied together: cheaper than an entry of an iovec each."""
GATHER_MAX = 256 << 10
"""Bytes, payload of RDMA included, that a cork holds back. A part of what a second-level cache keeps; and many small
replies still leave in one call, which both sides pay for."""
IOV_MAX = 1024
"""Buffers of one `sendmsg` (Linux UIO_MAXIOV)."""
SEND_HIGH_WATER = 1 << 20
"""Bytes waiting for the socket above which `drain` waits."""


class Outgoing:
    """The bytes on their way into a socket. Belongs to one asyncio loop."""

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_broken: Callable[[OSError], None],
        on_written: Callable[[], None],
    ) -> None:
        """`on_broken`: the socket takes nothing any more; `on_written`: it was writable again."""
        self.waiting_bytes = 0
        self._sock = sock
        self._loop = loop
        self._on_broken = on_broken
        self._on_written = on_written
        self._corked = 0
        self._gathered = 0
        """Bytes that became due since something was last given to the socket."""
        self._joined = bytearray()
        """Short parts, not yet at the end of `_waiting`."""
        self._waiting: deque[Buffer] = deque()
        self._added_bytes = 0
        """Since the start; less `waiting_bytes` they are with the kernel."""
        self._sent_marks: deque[tuple[int, Callable[[], None]]] = deque()
        self._blocked = False
        self._waiters: list[asyncio.Future[None]] = []

    def add(
        self,
        head: Buffer,
        parts: tuple[Buffer, ...] = (),
        length: int = 0,
        sent: Callable[[], None] | None = None,
        by_rdma: int = 0,
    ) -> None:
        """`head`, which is short, then `parts` of `length` bytes together; `by_rdma` more the proxy will move."""
        self.waiting_bytes += len(head) + length
        self._added_bytes += len(head) + length
        joined = self._joined
        joined += head
        for part in parts:
            if len(part) < JOIN_BELOW:
                joined += part
            else:
                self._waiting.append(joined)
                self._waiting.append(part)
                joined = self._joined = bytearray()
        if sent is not None:
            self._sent_marks.append((self._added_bytes, sent))
        self._gathered += len(head) + length + by_rdma
        if not self._corked or self._gathered >= GATHER_MAX:
            self.flush()

    def add_now(self, replies: memoryview) -> None:
        """Sends at once, if nothing waits: only what the socket does not take is copied."""
        if not self.waiting_bytes and not self._blocked:
            try:
                replies = replies[self._sock.send(replies) :]
            except OSError:  # full or broken: `flush` finds out which
                pass
        if replies:
            self.add(replies)

    def cork(self) -> None:
        self._corked += 1

    def uncork(self) -> None:
        self._corked -= 1
        if not self._corked and self.waiting_bytes:
            self.flush()

    def flush(self) -> None:
        """Gives the socket what it takes; the rest waits until it is writable."""
        self._gathered = 0
        if self._blocked:
            return
        waiting = self._waiting
        if self._joined:
            waiting.append(self._joined)
            self._joined = bytearray()
        while waiting:
            try:
                if len(waiting) == 1:
                    taken = self._sock.send(waiting[0])
                else:
                    taken = self._sock.sendmsg(itertools.islice(waiting, IOV_MAX))
            except (BlockingIOError, InterruptedError):
                self.block()
                break
            except OSError as error:
                if error.errno == errno.EFAULT and self._mend():
                    continue
                self._blocked = True
                self._loop.remove_writer(self._sock)
                self._on_broken(error)
                return
            self.waiting_bytes -= taken
            if self.waiting_bytes:
                self._advance(taken)
            else:
                waiting.clear()
        if self._sent_marks:
            self._call_sent()

    async def progress(self) -> None:
        """Until the socket took something, or was abandoned."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    async def drain(self) -> None:
        """Waits while more than SEND_HIGH_WATER bytes wait."""
        while self.waiting_bytes > SEND_HIGH_WATER:
            await self.progress()

    def block(self) -> None:
        """The socket is full: to be called for what is written past `add`, too."""
        if not self._blocked:
            self._blocked = True
            self._loop.add_writer(self._sock, self._on_writable)

    def abandon(self) -> None:
        """Before the socket is closed: nothing more leaves, what was to be sent is free again."""
        self._loop.remove_writer(self._sock)
        self._blocked = True
        self._waiting.clear()
        self._joined = bytearray()
        self.waiting_bytes = 0
        for _, sent in self._sent_marks:
            self._loop.call_soon(sent)
        self._sent_marks.clear()
        self._wake()

    def _advance(self, taken: int) -> None:
        """Drops the first `taken` bytes of what waits."""
        waiting = self._waiting
        while taken:
            first = waiting[0]
            if len(first) > taken:
                waiting[0] = memoryview(first)[taken:]
                return
            taken -= len(first)
            waiting.popleft()

    def _mend(self) -> bool:
        """A file that is being sent was cut off: its length is announced, so zeros go for what is missing."""
        cut = [place for place, part in enumerate(self._waiting) if is_cut(part)]
        for place in cut:
            self._waiting[place] = rescue(self._waiting[place])
        return bool(cut)

    def _call_sent(self) -> None:
        """Calls `sent` of every message that the kernel has in whole."""
        marks = self._sent_marks
        with_kernel = self._added_bytes - self.waiting_bytes
        while marks and marks[0][0] <= with_kernel:
            marks.popleft()[1]()

    def _on_writable(self) -> None:
        self._blocked = False
        self.flush()
        if not self._blocked:
            self._loop.remove_writer(self._sock)
        if self.waiting_bytes <= SEND_HIGH_WATER and self._waiters:
            self._wake()
        self._on_written()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
