"""The client's side of credits: which MessageIds it may use ([MS-SMB2] 3.2.4.1.2, 3.2.5.1.4)."""

from __future__ import annotations

import asyncio
from collections import deque

UNIT = 65536
"""Bytes of payload that one credit pays for ([MS-SMB2] 3.2.4.1.5)."""

MAX_ASKED = 0xFFFF


def charge_for(length: int) -> int:
    """CreditCharge of a request with this much payload in the larger direction."""
    return max(1, -(-length // UNIT))


class Credits:
    """MessageIds in order, as many as were granted; who wants more than there are waits in line."""

    def __init__(self, wanted: int) -> None:
        self.available = 1
        """What may be spent now. A connection begins with one credit."""
        self.waited = 0
        """Requests that had to wait for credits."""
        self._wanted = wanted
        self._next = 0
        self._in_flight = 0
        self._waiters: deque[tuple[int, asyncio.Future[int]]] = deque()
        self._closed: Exception | None = None

    def ask(self, charge: int) -> int:
        """CreditRequest: what the request costs, and what is missing to the wanted number."""
        missing = self._wanted - self.available - self._in_flight
        return min(max(charge, charge + missing), MAX_ASKED)

    async def take(self, charge: int) -> int:
        """Spends credits; the first of the MessageIds that they stand for."""
        if self._closed is not None:
            raise self._closed
        if charge <= self.available and not self._waiters:
            return self._spend(charge)
        self.waited += 1
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append((charge, waiter))
        return await waiter

    def grant(self, charge: int, granted: int) -> None:
        """A response came: what its request cost is no longer in flight, and there is more to spend."""
        self._in_flight -= charge
        self.available += granted
        while self._waiters and self._waiters[0][0] <= self.available:
            charge, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(self._spend(charge))

    def close(self, error: Exception) -> None:
        """No more credits will come."""
        self._closed = error
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def _spend(self, charge: int) -> int:
        self.available -= charge
        self._in_flight += charge
        first = self._next
        self._next += charge
        return first
