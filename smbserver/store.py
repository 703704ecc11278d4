"""What the workers of one server share.

Today that is the numbering of sessions, which needs no shared memory: each worker numbers within a range of its own.
Share modes, byte-range locks, leases, durable handles and the owners of sessions come behind this module too, on an
embedded database; nothing else may know where such state lives.
"""

from __future__ import annotations

SESSION_BITS = 20
"""Sessions are numbered 1 to 1,048,575 within a worker, then from the start again."""

WORKER_BITS = 12
"""Workers are numbered 0 to 4095, then from the start again. Session ids stay below 2**32, as clients know them."""


class Store:
    """One worker's access to what is shared."""

    def __init__(self, worker: int = 0) -> None:
        self.worker = worker % (1 << WORKER_BITS)
        self._next = 0

    def session_id(self) -> int:
        """A number that no other session of this server has now, unless this worker made a million since."""
        self._next = self._next % ((1 << SESSION_BITS) - 1) + 1
        return self.worker << SESSION_BITS | self._next
