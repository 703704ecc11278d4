"""Segments out, messages in ([MS-SMBD] 3.1.5.1 and 3.1.5.8).

A message that does not fit into one receive of the other side travels in several data transfer messages, its segments.
They stand in their order, and no segment of another message is among them; empty messages may be.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from smbdirect.pdu import Buffer, DataTransfer

MESSAGE_OVERHEAD = 64
"""Bytes that a waiting message costs besides its data. Bounds many small ones, too."""


class BrokenFragments(ValueError):
    """The peer's segments do not add up; the sentence says how."""


def cost(message: Buffer) -> int:
    return MESSAGE_OVERHEAD + len(message)


@dataclass(slots=True)
class _Waiting:
    message: memoryview
    invalidate: int | None
    done: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    payload: memoryview
    remaining: int
    """Bytes of the message that follow; 0: this is the last segment."""
    invalidate: int | None
    """With the last segment: the token that the Send invalidates."""


@dataclass(slots=True)
class Outgoing:
    """Messages on their way out; the first one may be partly sent."""

    bytes: int = 0
    """The cost of all of them."""
    queued: int = 0
    """Messages ever queued: their order among Writes."""
    sent: int = 0
    """Messages whose last segment has been cut."""
    _messages: deque[_Waiting] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, message: Buffer, invalidate: int | None) -> None:
        self._messages.append(_Waiting(memoryview(message), invalidate))
        self.bytes += cost(message)
        self.queued += 1

    def cut(self, size: int) -> Segment:
        """The next segment, at most `size` bytes. With its last segment the message leaves the queue."""
        first = self._messages[0]
        payload = first.message[first.done : first.done + size]
        first.done += len(payload)
        remaining = len(first.message) - first.done
        if remaining:
            return Segment(payload, remaining, None)
        self._messages.popleft()
        self.bytes -= cost(first.message)
        self.sent += 1
        return Segment(payload, 0, first.invalidate)

    def clear(self) -> None:
        self._messages.clear()
        self.bytes = 0


@dataclass(slots=True)
class Incoming:
    """The one message that is being put together."""

    size_max: int
    """Bytes of one message: our MaxFragmentedSize."""
    _message: bytearray | None = None
    _missing: int = 0

    def add(self, transfer: DataTransfer) -> bytes | None:
        """Adds a segment that has payload; returns the message when it is whole."""
        length = len(transfer.payload)
        total = length + transfer.remaining
        if self._message is None:
            if total > self.size_max:
                raise BrokenFragments(
                    "the peer announced a message larger than our MaxFragmentedSize"
                )
            self._message = bytearray()
        elif total != self._missing:
            raise BrokenFragments("a segment does not add up with the one before it")
        self._message += transfer.payload
        self._missing = transfer.remaining
        if transfer.remaining:
            return None
        whole, self._message = bytes(self._message), None
        return whole
