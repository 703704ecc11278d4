"""The pools that a proxy knows through one channel, from POOL to POOL_READY and on."""

from __future__ import annotations

import asyncio
import socket
from array import array
from collections import deque

from smbdirect import frames
from smbdirect.channel_end import ChannelClosed, ChannelEnd, TransferFailed
from smbdirect.close_reason import CloseReason
from smbdirect.outgoing import Outgoing
from smbdirect.pool import Pool


class PoolNumbers(dict[Pool, int]):
    """What the proxy calls the attached pools in this channel's frames."""

    def __missing__(self, pool: Pool) -> int:
        raise ValueError("the range's pool was not attached to this channel")


class AttachedPools:
    def __init__(self, sock: socket.socket, end: ChannelEnd, outgoing: Outgoing) -> None:
        self.numbers = PoolNumbers()
        self._sock = sock
        self._end = end
        self._outgoing = outgoing
        self._answers: dict[Pool, asyncio.Future[None]] = {}
        self._asked: deque[Pool] = deque()

    async def attach(self, pool: Pool) -> None:
        """Makes the pool's memory known to the proxy, once; further calls wait for the first."""
        answer = self._answers.get(pool)
        if answer is None:
            answer = self._answers[pool] = asyncio.get_running_loop().create_future()
            try:
                await self._send(pool)
            except BaseException as error:
                self._answers.pop(pool, None)
                if not answer.done():
                    answer.set_exception(ChannelClosed(CloseReason.BY_WORKER, str(error)))
                    answer.exception()
                raise
        await asyncio.shield(answer)

    async def _send(self, pool: Pool) -> None:
        """The descriptor goes with the frame's first byte: nothing may stand before it."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [pool.fd]))]
        while True:
            self._end.check()
            self._outgoing.flush()
            if not self._outgoing.waiting_bytes:
                try:
                    self._sock.sendmsg([frames.Pool(pool.size).pack()], rights)
                except (BlockingIOError, InterruptedError):
                    self._outgoing.block()
                except OSError as error:
                    self._end.lost(CloseReason.PEER_LOST, f"the connection broke: {error.strerror}")
                    continue
                else:
                    self._asked.append(pool)
                    return
            await self._outgoing.progress()

    def on_ready(self, body: memoryview) -> None:
        ready = frames.PoolReady.parse(body)
        if not self._asked:
            raise frames.Malformed("POOL_READY without a POOL")
        pool = self._asked.popleft()
        answer = self._answers[pool]
        if ready.status:
            del self._answers[pool]
            if not answer.done():
                answer.set_exception(TransferFailed(ready.status, ready.words))
        else:
            self.numbers[pool] = ready.pool
            if not answer.done():
                answer.set_result(None)

    def abandon(self) -> None:
        """The channel has ended: nothing more will be answered."""
        for answer in self._answers.values():
            self._end.fail(answer)
