"""Names without regard to case on file systems that regard it.

An exact name costs nothing here: only a name that is not there is looked for among the folded names of its
directory. The folded names are kept as long as nothing can have changed: the directory's time of modification is
the same, and it lay far enough in the past when the directory was read that a later change must have moved it.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict

from smbserver.vfs.names import fold

MAX_CACHED_DIRECTORIES = 64
"""Directories whose folded names are kept; the one not asked for longest goes first."""

MAX_CACHED_NAMES = 20_000
"""Entries of one directory above which its folded names are not kept, about 2 MB of memory."""

SETTLED_NS = 100_000_000
"""Nanoseconds after which a directory's time must move with a change; timestamps are coarse, 10 ms at worst."""


class FoldedNames:
    """Finds the entry of a directory that a client's spelling means."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], tuple[int, dict[str, str]]] = OrderedDict()

    def find(self, directory: int, name: str) -> str | None:
        """The real spelling of `name` in the directory open as a readable descriptor."""
        return self._names(directory).get(fold(name))

    def _names(self, directory: int) -> dict[str, str]:
        facts = os.fstat(directory)
        key = (facts.st_dev, facts.st_ino)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == facts.st_mtime_ns:
            self._kept.move_to_end(key)
            return kept[1]
        settled = time.time_ns() - facts.st_mtime_ns > SETTLED_NS
        names = {fold(entry): entry for entry in sorted(os.listdir(directory), reverse=True)}
        if settled and len(names) <= MAX_CACHED_NAMES:
            self._kept[key] = (facts.st_mtime_ns, names)
            self._kept.move_to_end(key)
            if len(self._kept) > MAX_CACHED_DIRECTORIES:
                self._kept.popitem(last=False)
        return names
