"""SMB READ and WRITE of one file at a fixed queue depth; the same client work whoever serves."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from smbdirect.pool import PoolRange
from smbserver.bench.figures import MIB
from smbserver.client import Open, connect
from smbserver.own_server import LOOPBACK

FILE_NAME = "bench.data"
FILE_SIZE = 256 * MIB
LARGE, LARGE_DEPTH = MIB, 8
SMALL, SMALL_DEPTH = 4096, 16

Request = Callable[[int, PoolRange], Awaitable[int]]


class ShortTransfer(Exception):
    """A READ or WRITE moved less than it was asked to."""


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """Where to connect, and as whom."""

    port: int
    share: str
    user: str
    password: str
    rdma_port: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """One session with one open file."""

    file: Open

    async def read(self, size: int) -> float:
        """MiB/s of READs of 1 MiB."""
        return size / MIB / await self._timed(self.file.read_into, LARGE, LARGE_DEPTH, size)

    async def write(self, size: int) -> float:
        """MiB/s of WRITEs of 1 MiB."""
        return size / MIB / await self._timed(self.file.write_from, LARGE, LARGE_DEPTH, size)

    async def read_small(self, count: int) -> float:
        """READs of 4 KiB per second."""
        size = count * SMALL
        return count / await self._timed(self.file.read_into, SMALL, SMALL_DEPTH, size)

    async def _timed(self, request: Request, block: int, depth: int, size: int) -> float:
        """Seconds for `size` bytes in requests of `block`, `depth` at a time, round and round the file."""
        offsets = itertools.islice(itertools.cycle(range(0, FILE_SIZE, block)), size // block)
        pieces = [await self.file.tree.session.buffer(block) for _ in range(depth)]

        async def slot(piece: PoolRange) -> None:
            for offset in offsets:
                moved = await request(offset, piece)
                if moved != block:
                    raise ShortTransfer(f"{moved} of {block} bytes at {offset}")

        began = time.perf_counter()
        await asyncio.gather(*map(slot, pieces))
        seconds = time.perf_counter() - began
        for piece in pieces:
            piece.release()
        return seconds


@contextlib.asynccontextmanager
async def work(account: Account, control: str | None = None) -> AsyncIterator[Work]:
    """A session with the file open; over an RDMA channel if the control socket of a proxy is given."""
    session = await connect(
        LOOPBACK,
        account.port,
        user=account.user,
        password=account.password,
        rdma=control is not None,
        rdma_port=account.rdma_port,
        control=control,
    )
    async with (
        session,
        await session.tree(account.share) as tree,
        await tree.create(FILE_NAME) as file,
    ):
        yield Work(file)
