"""Byte-range locks ([MS-SMB2] 3.3.5.14, [MS-FSA] 2.1.5.8).

The table covers the opens of this process; it moves behind the store that all workers share.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smbserver.open import Open
    from smbserver.share_modes import SharedFile

MAX_LOCKS = 4096
"""Ranges locked in one file by one open; databases keep a few dozen."""


@dataclass(frozen=True, slots=True)
class ByteRangeLock:
    """A range that one open holds."""

    opened: Open
    offset: int
    length: int
    exclusive: bool

    def overlaps(self, offset: int, length: int) -> bool:
        """Whether a byte is in both ranges; empty ranges have none."""
        if not self.length or not length:
            return False
        return self.offset < offset + length and offset < self.offset + self.length


_held: dict[SharedFile, list[ByteRangeLock]] = {}
_waiting: dict[SharedFile, list[asyncio.Future[None]]] = {}


def conflicts(opened: Open, offset: int, length: int, exclusive: bool) -> bool:
    """Whether a lock that is held excludes this one. An exclusive one excludes its own open's next one too."""
    held = _held.get(opened.file, ())
    return any((lock.exclusive or exclusive) and lock.overlaps(offset, length) for lock in held)


def may_access(opened: Open, offset: int, length: int, writing: bool) -> bool:
    """Whether a READ or WRITE may touch the range ([MS-FSA] 2.1.4.10)."""
    held = _held.get(opened.file)
    if not held:
        return True
    for lock in held:
        foreign = lock.opened is not opened
        excludes = foreign if lock.exclusive else writing
        if excludes and lock.overlaps(offset, length):
            return False
    return True


def acquire(opened: Open, offset: int, length: int, exclusive: bool) -> bool:
    """Take the range; False if somebody holds it, or too many are held."""
    held = _held.get(opened.file)
    if held is None:
        held = _held[opened.file] = []
    mine = sum(lock.opened is opened for lock in held)
    if mine >= MAX_LOCKS or conflicts(opened, offset, length, exclusive):
        _forget_if_empty(opened.file)
        return False
    if not mine:
        opened.on_close.append(lambda: release_all(opened))
    held.append(ByteRangeLock(opened, offset, length, exclusive))
    return True


def release(opened: Open, offset: int, length: int) -> bool:
    """Give exactly this range back; False if it is not held."""
    for lock in _held.get(opened.file, ()):
        if lock.opened is opened and lock.offset == offset and lock.length == length:
            _held[opened.file].remove(lock)
            _changed(opened.file)
            return True
    return False


def release_all(opened: Open) -> None:
    """Give everything back that the open holds."""
    if opened.file in _held:
        _held[opened.file] = [lock for lock in _held[opened.file] if lock.opened is not opened]
        _changed(opened.file)


async def until_changed(opened: Open) -> None:
    """Return when some lock of the file was given back, or the open ends."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    waiting = _waiting.setdefault(opened.file, [])
    waiting.append(future)
    opened.on_close.append(wake)
    try:
        await future
    finally:
        opened.on_close.remove(wake)
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            _waiting.pop(opened.file, None)


def _changed(file: SharedFile) -> None:
    for future in _waiting.pop(file, ()):
        if not future.done():
            future.set_result(None)
    _forget_if_empty(file)


def _forget_if_empty(file: SharedFile) -> None:
    if not _held.get(file):
        _held.pop(file, None)
