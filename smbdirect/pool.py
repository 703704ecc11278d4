"""A worker's memory for RDMA: a sealed memfd, mapped here and, once POOL named it, by the proxy.

Ranges are whole pages, found first-fit; one that comes back is the first to be given out again for
its size, so that the memory at work stays small and warm.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
from bisect import bisect_left, insort
from collections import deque
from types import TracebackType
from typing import Self

PAGE = mmap.PAGESIZE
RECENT_MAX = 64
"""Ranges of one length kept ready for reuse; more are merged with their free neighbours."""


class PoolExhausted(Exception):
    """No free range is long enough now."""


class PoolRange:
    """A range that is the holder's until `release`, and the proxy's while a transfer names it."""

    __slots__ = ("_released", "_transfers", "length", "offset", "pool", "size", "view")

    def __init__(self, pool: Pool, offset: int, length: int, size: int, view: memoryview) -> None:
        self.pool = pool
        self.offset = offset
        self.length = length
        self.size = size
        self.view = view
        self._transfers = 0
        self._released = False

    def release(self) -> None:
        """Gives the range back; at once, or when the last transfer that names it is done."""
        if self._released:
            return
        self._released = True
        if not self._transfers:
            self.pool._take_back(self)

    def begin_transfer(self) -> None:
        self._transfers += 1

    def end_transfer(self) -> None:
        self._transfers -= 1
        if self._released and not self._transfers:
            self.pool._take_back(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.release()


class Pool:
    """Shared memory that can neither shrink nor grow. Belongs to one asyncio loop."""

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise ValueError(
                f"a pool of {size} bytes was asked for; it must have at least one page"
            )
        self.size = -(-size // PAGE) * PAGE
        self.fd = os.memfd_create("smbdirect-pool", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, self.size)
            fcntl.fcntl(
                self.fd,
                fcntl.F_ADD_SEALS,
                fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
            )
            self._map = mmap.mmap(self.fd, self.size)
        except OSError:
            os.close(self.fd)
            raise
        self._view = memoryview(self._map)
        self._starts = [0]
        """Offsets of free stretches, ascending, never adjacent; `_sizes` tells their lengths."""
        self._sizes = {0: self.size}
        self._recent: dict[int, list[int]] = {}
        """Offsets of returned ranges by size, the last one to come back at the end."""
        self._waiters: deque[tuple[int, asyncio.Future[PoolRange]]] = deque()
        self._used = 0
        self._closed = False

    @property
    def used(self) -> int:
        """Bytes that are given out."""
        return self._used

    @property
    def closed(self) -> bool:
        return self._closed

    def allocate(self, length: int) -> PoolRange:
        """A range of at least `length` bytes, at once."""
        if self._waiters:
            raise PoolExhausted(f"{len(self._waiters)} others wait for memory of the pool")
        return self._allocate(length)

    async def acquire(self, length: int) -> PoolRange:
        """A range of at least `length` bytes; waits behind those who asked before."""
        if length > self.size:
            raise PoolExhausted(f"{length} bytes were asked for, the whole pool has {self.size}")
        try:
            return self.allocate(length)
        except PoolExhausted:
            pass
        waiter: asyncio.Future[PoolRange] = asyncio.get_running_loop().create_future()
        entry = (length, waiter)
        self._waiters.append(entry)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                waiter.result().release()
            elif entry in self._waiters:
                self._waiters.remove(entry)
                self._serve_waiters()
            raise

    def close(self) -> None:
        """Closes descriptor and mapping; views of ranges that are held keep the mapping alive."""
        if self._closed:
            return
        self._closed = True
        os.close(self.fd)
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(PoolExhausted("the pool was closed"))
        try:
            self._view.release()
            self._map.close()
        except BufferError:
            pass  # the last view's end unmaps it

    def _allocate(self, length: int) -> PoolRange:
        if self._closed:
            raise PoolExhausted("the pool is closed")
        if length <= 0:
            raise ValueError(f"a range of {length} bytes was asked for")
        size = -(-length // PAGE) * PAGE
        recent = self._recent.get(size)
        offset = recent.pop() if recent else self._first_fit(size)
        self._used += size
        return PoolRange(self, offset, length, size, self._view[offset : offset + length])

    def _first_fit(self, size: int) -> int:
        for attempt in range(2):
            for index, start in enumerate(self._starts):
                free = self._sizes[start]
                if free < size:
                    continue
                del self._sizes[start]
                if free == size:
                    del self._starts[index]
                else:
                    self._starts[index] = start + size
                    self._sizes[start + size] = free - size
                return start
            if attempt == 0:
                self._merge_recent()
        raise PoolExhausted(
            f"{size} bytes were asked for; {self.size - self._used} of the pool's {self.size} are free,"
            " not in one stretch"
        )

    def _take_back(self, piece: PoolRange) -> None:
        self._used -= piece.size
        if self._closed:
            return
        recent = self._recent.setdefault(piece.size, [])
        if len(recent) < RECENT_MAX:
            recent.append(piece.offset)
        else:
            self._merge(piece.offset, piece.size)
        if self._waiters:
            self._serve_waiters()

    def _merge_recent(self) -> None:
        for size, offsets in self._recent.items():
            for offset in offsets:
                self._merge(offset, size)
        self._recent.clear()

    def _merge(self, start: int, size: int) -> None:
        """Adds a stretch to the free ones, together with the neighbours that it touches."""
        following = self._sizes.pop(start + size, None)
        if following is not None:
            del self._starts[bisect_left(self._starts, start + size)]
            size += following
        index = bisect_left(self._starts, start)
        if index and self._starts[index - 1] + self._sizes[self._starts[index - 1]] == start:
            self._sizes[self._starts[index - 1]] += size
        else:
            insort(self._starts, start)
            self._sizes[start] = size

    def _serve_waiters(self) -> None:
        while self._waiters:
            length, waiter = self._waiters[0]
            if waiter.done():
                self._waiters.popleft()
                continue
            try:
                piece = self._allocate(length)
            except PoolExhausted:
                return
            self._waiters.popleft()
            waiter.set_result(piece)
