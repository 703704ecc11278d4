"""Messages for a program that asks for the next one instead of being called."""

from __future__ import annotations

import asyncio
from collections import deque

from smbdirect.channel_end import ChannelEnd
from smbdirect.incoming import Incoming

RECEIVE_QUEUE_MAX = 256
"""Messages waiting for `receive` above which nothing more is read."""


class Inbox:
    """Stops the reading when it is full."""

    def __init__(self, end: ChannelEnd, incoming: Incoming) -> None:
        self._end = end
        self._incoming = incoming
        self._messages: deque[memoryview] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()

    def put(self, message: memoryview) -> None:
        self._messages.append(message)
        self.wake()
        if len(self._messages) >= RECEIVE_QUEUE_MAX:
            self._incoming.pause()

    async def receive(self) -> memoryview:
        while not self._messages:
            self._end.check()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        message = self._messages.popleft()
        if self._messages:
            self.wake()
        if self._incoming.paused and len(self._messages) < RECEIVE_QUEUE_MAX // 2:
            self._incoming.resume()
        return message

    def wake(self) -> None:
        """Those who wait look again, whether for a message or for the end."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def empty(self) -> deque[memoryview]:
        """What nobody has asked for yet, given up."""
        if len(self._messages) >= RECEIVE_QUEUE_MAX:
            self._incoming.paused = False  # it was `put` that paused
        messages, self._messages = self._messages, deque()
        return messages
