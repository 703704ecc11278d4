"""RDMA Write and Read through two proxies, without SMB: what the engine can move.

One proxy connects, the other listens; both are processes of their own. The connecting side exposes memory,
the listening side writes to it and reads from it, as an SMB server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from smbdirect.channel import Channel
from smbdirect.control import Proxy, ProxyListener
from smbdirect.frames import Access
from smbdirect.pool import Pool, PoolRange
from smbserver.bench.figures import MIB
from smbserver.own_server import LOOPBACK, running_proxy

DEPTH = 8
BLOCK = MIB

Transfer = Callable[[PoolRange, int, bytes], Awaitable[int]]


@dataclasses.dataclass(slots=True)
class Pair:
    """Two proxies, a listener of the one, and channels between them."""

    near: Proxy
    listener: ProxyListener
    connecting_pid: int
    listening_pid: int

    async def channels(self) -> tuple[Channel, Channel]:
        """A new connection: its connecting end, its listening end."""
        accepted = asyncio.ensure_future(self.listener.accept())
        connected = Channel(*await self.near.connect(self.listener.address, self.listener.port))
        return connected, Channel(*await accepted)


@contextlib.asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    with running_proxy(folder / "near") as near, running_proxy(folder / "far") as far:
        connecting, listening = await Proxy.open(near.control), await Proxy.open(far.control)
        try:
            yield Pair(connecting, await listening.listen(LOOPBACK, 0), near.pid, far.pid)
        finally:
            await connecting.close()
            await listening.close()


@dataclasses.dataclass(slots=True)
class Blocks:
    """DEPTH blocks on both ends of one connection, the connecting end's exposed to the peer."""

    connected: Channel
    accepted: Channel
    pools: tuple[Pool, Pool]
    pieces: list[PoolRange]
    descriptors: list[bytes]

    async def write(self, size: int) -> float:
        """MiB/s of `size` bytes by RDMA Write."""
        return await self._move(self.accepted.rdma_write, size)

    async def read(self, size: int) -> float:
        """MiB/s of `size` bytes by RDMA Read."""
        return await self._move(self.accepted.rdma_read, size)

    async def _move(self, transfer: Transfer, size: int) -> float:
        left = size // BLOCK

        async def one_slot(piece: PoolRange, descriptor: bytes) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await transfer(piece, BLOCK, descriptor)

        began = time.perf_counter()
        await asyncio.gather(*map(one_slot, self.pieces, self.descriptors))
        return size / MIB / (time.perf_counter() - began)

    def close(self) -> None:
        self.connected.close()
        self.accepted.close()
        for pool in self.pools:
            pool.close()


async def open_blocks(pair: Pair) -> Blocks:
    connected, accepted = await pair.channels()
    exposed, own = Pool(DEPTH * BLOCK), Pool(DEPTH * BLOCK)
    await connected.attach(exposed)
    await accepted.attach(own)
    descriptors = [
        (await connected.expose(exposed.allocate(BLOCK), Access.READ | Access.WRITE)).pack()
        for _ in range(DEPTH)
    ]
    pieces = [own.allocate(BLOCK) for _ in range(DEPTH)]
    return Blocks(connected, accepted, (exposed, own), pieces, descriptors)
