"""Windows: what a client lets its peer read or write, from `expose` to `revoke`.

Exposing and revoking take a place on the send queue, and wait here in one line when it is full.
"""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from smbdirect.pdu import BufferDescriptor
from smbdirect.rdma import Refused
from smbdirect.sendqueue import SendQueue

WINDOWS_MAX = 4096
"""Windows of one connection."""


class WindowState(Enum):
    EXPOSE = "to be exposed, waits for the send queue"
    EXPOSING = "the exposure is posted"
    EXPOSED = "the peer knows its token, or may"
    REVOKE = "to be revoked, waits for the send queue"
    REVOKING = "the revocation is posted"


_POSTED = {
    WindowState.EXPOSE: WindowState.EXPOSING,
    WindowState.REVOKE: WindowState.REVOKING,
}


@dataclass(slots=True)
class Window:
    operation: int
    memory: memoryview
    access: int
    """1: the peer may read, 2: write, 3: both."""
    state: WindowState = WindowState.EXPOSE
    descriptor: BufferDescriptor | None = None
    invalidated: bool = False
    """By the peer."""


@dataclass(slots=True)
class Windows:
    _table: dict[int, Window] = field(default_factory=dict)
    _line: deque[int] = field(default_factory=deque)

    def waits(self) -> bool:
        return bool(self._line)

    def expose(self, operation: int, memory: memoryview, access: int) -> None:
        if not len(memory) or access not in (1, 2, 3):
            raise Refused(errno.EINVAL)
        if len(self._table) == WINDOWS_MAX:
            raise Refused(errno.EBUSY)
        place = next(place for place in range(WINDOWS_MAX) if place not in self._table)
        self._table[place] = Window(operation, memory, access)
        self._line.append(place)

    def revoke(self, operation: int, token: int) -> None:
        place = self._find_exposed(token)
        if place is None:
            raise Refused(errno.ENOENT)
        window = self._table[place]
        window.state = WindowState.REVOKE
        window.operation = operation
        self._line.append(place)

    def invalidate(self, token: int) -> bool:
        """The peer has invalidated a token. True if this ended a window that is exposed, the first time."""
        place = self._find_exposed(token)
        if place is None or self._table[place].invalidated:
            return False
        self._table[place].invalidated = True
        return True

    def _find_exposed(self, token: int) -> int | None:
        for place, window in self._table.items():
            exposed = window.state is WindowState.EXPOSED and window.descriptor
            if exposed and exposed.token == token:
                return place
        return None

    def post(self, queue: SendQueue) -> list[tuple[int, Window]]:
        """Those that go to the queue pair now, as far as the send queue has room."""
        posted = []
        while self._line and queue.has_room():
            place = self._line.popleft()
            window = self._table[place]
            window.state = _POSTED[window.state]
            queue.used += 1
            posted.append((place, window))
        return posted

    def exposed(self, place: int, descriptor: BufferDescriptor) -> int | None:
        """The exposure in `place` is done; returns its operation."""
        window = self._table.get(place)
        if window is None or window.state is not WindowState.EXPOSING:
            return None
        window.state = WindowState.EXPOSED
        window.descriptor = descriptor
        return window.operation

    def revoked(self, place: int) -> int | None:
        window = self._table.get(place)
        if window is None or window.state is not WindowState.REVOKING:
            return None
        del self._table[place]
        return window.operation

    def unfinished(self) -> list[Window]:
        """In the order of their places; those that are exposed and quiet are finished."""
        windows = [window for _, window in sorted(self._table.items())]
        self._table.clear()
        self._line.clear()
        return [window for window in windows if window.state is not WindowState.EXPOSED]
