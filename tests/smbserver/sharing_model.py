"""What opens of one file do to each other, as a model: share modes, byte-range locks, leases.

Written from [MS-FSA] 2.1.5.1.2, 2.1.4.10 and 2.1.5.18 with nothing of the server's code: lists, searched from end to
end. A client uses one lease key for each file, and acknowledges every break at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

READ, WRITE, DELETE = 1, 2, 4
"""Of rights and of sharing."""
R, H, W = 1, 2, 4
"""Of leases."""


@dataclass(eq=False)
class Handle:
    """One open of a client; `leased`: under the client's lease of the file."""

    who: int
    name: str
    rights: int
    share: int
    leased: bool
    locks: list[tuple[int, int, bool]] = field(default_factory=list)
    """Offset, length, exclusive."""


@dataclass(frozen=True)
class Break:
    """What a client is told of its lease."""

    name: str
    before: int
    to: int


class Model:
    """Everything that the clients have open."""

    def __init__(self, clients: int) -> None:
        self.handles: list[Handle] = []
        self.leases: dict[tuple[int, str], int] = {}
        """State by client and file, as long as an open is under it."""
        self.expected: list[list[Break]] = [[] for _ in range(clients)]
        """All breaks of each client since the beginning."""

    # share modes

    def open(self, who: int, name: str, rights: int, share: int, wish: int | None) -> Handle | None:
        """`wish`: a lease state, None for no lease. None: SHARING_VIOLATION. Others' caching is broken either way."""
        violates = any(_exclude(one, rights, share) for one in self._of(name))
        if rights:  # who only looks at attributes disturbs nobody
            own = (who, name) if wish is not None else None
            for key in [one for one in self.leases if one[1] == name and one != own]:
                self._lower(key, self.leases[key] & ~(H if violates else W))
        if violates:
            return None
        if wish is not None:
            self._grant(who, name, wish)
        handle = Handle(who, name, rights, share, wish is not None)
        self.handles.append(handle)
        return handle

    def close(self, handle: Handle) -> None:
        """A lease ends with its last open."""
        self.handles.remove(handle)
        key = handle.who, handle.name
        if handle.leased and not any(
            one.leased and (one.who, one.name) == key for one in self.handles
        ):
            del self.leases[key]

    # leases

    def _grant(self, who: int, name: str, wish: int) -> None:
        """All that is asked for, or more than before: a lease is never taken down by one more open."""
        key = who, name
        strangers = [
            one
            for one in self._of(name)
            if (one.leased or one.rights) and not (one.leased and one.who == who)
        ]
        granted = wish if wish & R else 0
        if strangers:
            granted &= ~W
        if any(one.locks for one in self._of(name)):
            granted = 0
        now = self.leases.get(key)
        if now is None or (granted == (wish if wish & R else 0) and not now & ~granted):
            self.leases[key] = granted

    def _lower(self, key: tuple[int, str], to: int) -> None:
        before, to = self.leases[key], to if to & R else 0
        if before != to:
            self.expected[key[0]].append(Break(key[1], before, to))
            self.leases[key] = to

    def _changed(self, handle: Handle) -> None:
        """Nobody else goes on reading what he keeps; who may write without telling is alone."""
        own = (handle.who, handle.name) if handle.leased else None
        if not (handle.leased or handle.rights) or (own and self.leases[own] & W):
            return
        for key in [one for one in self.leases if one[1] == handle.name and one != own]:
            if self.leases[key] & R:
                self._lower(key, 0)

    # byte-range locks

    def lock(self, handle: Handle, offset: int, length: int, exclusive: bool) -> bool:
        """False: LOCK_NOT_GRANTED."""
        for one in self._of(handle.name):
            for begin, size, held in one.locks:
                stacked = one is handle and not exclusive
                meets = begin < offset + length and offset < begin + size
                if (exclusive or held) and not stacked and meets:
                    return False
        handle.locks.append((offset, length, exclusive))
        self._changed(handle)
        return True

    def unlock(self, handle: Handle, offset: int, length: int) -> None:
        """The oldest of those that fit exactly."""
        handle.locks.remove(next(one for one in handle.locks if one[:2] == (offset, length)))

    def may_access(self, handle: Handle, offset: int, length: int, *, writing: bool) -> bool:
        """False: FILE_LOCK_CONFLICT."""
        for one in self._of(handle.name):
            for begin, size, exclusive in one.locks:
                excludes = one is not handle if exclusive else writing
                if excludes and begin < offset + length and offset < begin + size:
                    return False
        return True

    def write(self, handle: Handle, offset: int, length: int) -> bool:
        """False: FILE_LOCK_CONFLICT."""
        if not self.may_access(handle, offset, length, writing=True):
            return False
        self._changed(handle)
        return True

    def _of(self, name: str) -> list[Handle]:
        return [one for one in self.handles if one.name == name]


def _exclude(one: Handle, rights: int, share: int) -> bool:
    return bool(rights and one.rights and (rights & ~one.share or one.rights & ~share))
