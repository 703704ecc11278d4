"""The far end of a channel, played by a test in bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from smbdirect import frames
from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed
from smbdirect.channel_facts import ChannelFacts
from smbdirect.frames import FrameType
from smbdirect.pool import PAGE, Pool

FACTS = ChannelFacts("rdma", ("192.0.2.1", 5445), ("192.0.2.2", 40000), read_depth=16)
TCP = ChannelFacts("tcp", ("192.0.2.1", 445), ("192.0.2.2", 40000))
PATIENCE = 10.0


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await story()

    asyncio.run(bounded())


def message(body: bytes) -> bytes:
    return frames.HEADER.pack(len(body)) + body


class Peer:
    """The far end, in bytes: what a proxy or a TCP client does."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            more = await self._loop.sock_recv(self.sock, size - len(found))
            if not more:
                raise EOFError(f"{len(found)} of {size} bytes came")
            found += more
        return found

    async def frame(self) -> tuple[int, bytes]:
        (word,) = frames.HEADER.unpack(await self.read(4))
        return word >> 24, await self.read(word & frames.LENGTH_MASK)

    async def write(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)


def pair(facts: ChannelFacts = FACTS, initial: bytes = b"") -> tuple[Channel, Peer]:
    ours, theirs = socket.socketpair()
    return Channel(ours, facts, initial=initial), Peer(theirs)


async def attached(channel: Channel, peer: Peer, size: int = 16 * PAGE, number: int = 1) -> Pool:
    """A pool that the peer has answered for."""
    pool = Pool(size)
    task = asyncio.create_task(channel.attach(pool))
    kind, body = await peer.frame()
    assert kind == FrameType.POOL
    await peer.write(frames.PoolReady(0, number, frames.Pool.parse(memoryview(body)).size).pack())
    await task
    return pool


class Collected:
    """What a channel delivered."""

    def __init__(self, channel: Channel) -> None:
        self.messages: list[bytes] = []
        self.closed: list[ChannelClosed] = []
        self.end = asyncio.get_running_loop().create_future()
        self._more = asyncio.Event()
        channel.start(self._message, self._closed)

    async def count(self, wanted: int) -> None:
        """Returns when so many messages came."""
        while len(self.messages) < wanted:
            self._more.clear()
            await self._more.wait()

    def _message(self, given: memoryview) -> None:
        self.messages.append(bytes(given))
        self._more.set()

    def _closed(self, closed: ChannelClosed) -> None:
        self.closed.append(closed)
        if len(self.closed) == 1:
            self.end.set_result(closed)


class CountingSocket(socket.socket):
    """Counts the calls that write."""

    calls = 0

    def send(self, *arguments: Any) -> int:
        self.calls += 1
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self.calls += 1
        return super().sendmsg(*arguments)


def counting_pair() -> tuple[Channel, CountingSocket, Peer]:
    ours, theirs = socket.socketpair()
    sock = CountingSocket(fileno=ours.detach())
    return Channel(sock, FACTS), sock, Peer(theirs)
