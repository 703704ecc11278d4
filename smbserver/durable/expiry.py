"""When durable opens have waited long enough: one timer, in the listener, which outlives the workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from smbserver.durable.parked import Parked

AGAIN = 1.0
"""Seconds until it is looked whether the worker that was asked has ended them."""


class Expiry:
    """`end` asks some worker to end those whose time is up."""

    def __init__(self, parked: Parked, end: Callable[[], None]) -> None:
        self._parked = parked
        self._end = end
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Learn from the tables when to act next: at the start, and after each time."""
        now = time.time()
        deadlines = [record.deadline for record in self._parked.all()]
        if any(deadline <= now for deadline in deadlines):
            self._end()
            self.within(AGAIN)
        later = [deadline - now for deadline in deadlines if deadline > now]
        if later:
            self.within(min(later))

    def within(self, seconds: float) -> None:
        """One more open waits for so long."""
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() <= loop.time() + seconds:
            return
        self.stop()
        self._timer = loop.call_later(seconds, self._due)

    def stop(self) -> None:
        """The server ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self.look()
