"""A message that is received straight into memory: one of its own, or for its end that of whoever awaits it."""

from __future__ import annotations

from collections.abc import Callable

from smbdirect.message_memory import MessageMemory

Place = Callable[[memoryview, int], memoryview | None]
"""Asked with the first bytes of a large message, and its length, for memory of its last bytes."""


class LargeMessage:
    """What has come of it, and where the rest goes."""

    __slots__ = ("_filled", "_head", "_memory", "length")

    def __init__(
        self, length: int, begun: memoryview, memory: MessageMemory, place: Place | None
    ) -> None:
        placed = None if place is None else place(begun, length)
        self.length = length
        self._memory = memory.take(length) if placed is None else placed
        split = length - len(self._memory)
        self._head, begun = bytes(begun[:split]), begun[split:]
        """What stands before the memory; empty unless it was placed."""
        self._filled = len(begun)
        self._memory[: self._filled] = begun

    @property
    def room(self) -> memoryview:
        """For the bytes that are missing."""
        return self._memory[self._filled :]

    def came(self, count: int) -> bool:
        """So many bytes are in `room`; whether the message is complete."""
        self._filled += count
        return self._filled == len(self._memory)

    @property
    def delivered(self) -> memoryview:
        """What is not yet where it belongs: all, or what stands before the bytes that were placed."""
        return memoryview(self._head) if self._head else self._memory

    def so_far(self) -> bytes:
        """A copy of what has come."""
        return self._head + bytes(self._memory[: self._filled])
