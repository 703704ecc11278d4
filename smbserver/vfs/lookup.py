"""Names without regard to case on file systems that regard it.

An exact name costs nothing here: only a name that is not there is looked for among the folded names of its
directory. They are read once and then follow what inotify tells, so that a thousand new files in a large directory do
not read it a thousand times. A directory that changed without inotify telling (on a network file system) is read
again; where nothing can be watched, nothing is kept.
"""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from dataclasses import dataclass

from smbserver.vfs import inotify
from smbserver.vfs.inotify import Event
from smbserver.vfs.names import fold
from smbserver.vfs.watches import WATCHES, Subscription

MAX_DIRECTORIES = 64
"""Directories that are followed; the one not asked for longest goes first. Each takes a watch of the kernel."""

MAX_NAMES = 200_000
"""Names kept in all, about 30 MB of memory; a directory with more is read whenever it is asked for."""

_ADDED = inotify.IN_CREATE | inotify.IN_MOVED_TO
_REMOVED = inotify.IN_DELETE | inotify.IN_MOVED_FROM
_ENDED = inotify.IN_IGNORED | inotify.IN_UNMOUNT
_WATCHED = _ADDED | _REMOVED | inotify.IN_ONLYDIR
_FOLLOWED = _ADDED | _REMOVED | _ENDED

_Key = tuple[int, int]


@dataclass(slots=True)
class _Directory:
    """The names of one directory as they are now."""

    watch: Subscription
    names: dict[str, str]
    """Folded to real spelling."""
    modified: int
    """The directory's time when it was read, or when a change was last told."""
    told: bool = False
    """A change was told since `modified` was taken."""


class FoldedNames:
    """Finds the entry of a directory that a client's spelling means."""

    def __init__(self) -> None:
        self._directories: OrderedDict[_Key, _Directory] = OrderedDict()

    def find(self, directory: int, name: str) -> str | None:
        """The real spelling of `name` in the directory open as a readable descriptor."""
        facts = os.fstat(directory)
        key = (facts.st_dev, facts.st_ino)
        WATCHES.follow()
        kept = self._directories.get(key)
        if kept is None or not (kept.told or kept.modified == facts.st_mtime_ns):
            self._drop(key)
            return self._read(directory, key).get(fold(name))
        kept.modified, kept.told = facts.st_mtime_ns, False
        self._directories.move_to_end(key)
        return kept.names.get(fold(name))

    def _read(self, directory: int, key: _Key) -> dict[str, str]:
        """Watched first and read then, so that no change falls between."""
        watch = self._watch(directory, key)
        modified = os.fstat(directory).st_mtime_ns
        entries = os.listdir(directory)
        names = {fold(entry): entry for entry in sorted(entries, reverse=True)}
        if watch is None:
            return names
        self._directories[key] = _Directory(watch, names, modified)
        if len(names) < len(
            entries
        ):  # names that differ in case only are more than the dictionary tells
            self._drop(key)
        while len(self._directories) > MAX_DIRECTORIES or self._count() > MAX_NAMES:
            self._drop(next(iter(self._directories)))
        return names

    def _count(self) -> int:
        return sum(len(one.names) for one in self._directories.values())

    def _watch(self, directory: int, key: _Key) -> Subscription | None:
        try:
            return WATCHES.subscribe(
                f"/proc/self/fd/{directory}", _WATCHED, functools.partial(self._told, key)
            )
        except OSError:  # the user's instances or watches are used up
            return None

    def _drop(self, key: _Key) -> None:
        kept = self._directories.pop(key, None)
        if kept is not None:
            WATCHES.unsubscribe(kept.watch)

    # what inotify tells

    def _told(self, key: _Key, event: Event) -> None:
        directory = self._directories.get(key)
        if directory is None:
            return
        if event.mask & inotify.IN_Q_OVERFLOW:
            self._drop(key)
        elif event.mask & _FOLLOWED:
            self._change(key, directory, event)

    def _change(self, key: _Key, directory: _Directory, event: Event) -> None:
        if event.mask & _ENDED:
            self._drop(key)
            return
        folded = fold(event.name)
        known = directory.names.get(folded)
        if known is not None and known != event.name:  # another spelling of a name that is there
            self._drop(key)
            return
        directory.told = True
        if event.mask & _ADDED:
            directory.names[folded] = event.name
        else:
            directory.names.pop(folded, None)


FOLDED_NAMES = FoldedNames()
"""Of all shares of this process: the kernel allows a user few instances of inotify."""
