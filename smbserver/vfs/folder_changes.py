"""What changes in a folder, or in all below it, in the words of CHANGE_NOTIFY ([MS-SMB2] 2.2.35, [MS-FSCC] 2.7.1).

1. the folder is subscribed to, and for a tree every folder below it, each by its own watch of the kernel; a large
   tree is walked in slices, and what changes where nobody follows yet is told as "more than could be told";
2. an event becomes an action and the filters that it passes;
3. the two halves of a rename are joined by their cookie: within one folder it is a rename, between two of them a
   removal and an addition, as Windows tells it;
4. folders that come, go or move inside the tree are subscribed to, let go or renamed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from smbserver.vfs import inotify
from smbserver.vfs.inotify import Event
from smbserver.vfs.names import is_shown
from smbserver.vfs.openat2 import open_beneath
from smbserver.vfs.watches import WATCHES, Subscription
from smbserver.wire.change_notify import CompletionFilter, FileAction

log = logging.getLogger(__name__)

MAX_FOLDERS = 8192
"""Folders that the tree watches of one worker follow in all. Linux gives a user some ten thousand watches or more
(fs.inotify.max_user_watches), about 1 KiB of kernel memory each, and other programs need some."""

MAKING = 0.1
"""Seconds in which who made something goes on to set its attributes, in another process perhaps: part of its making."""

SLICE = 64
"""Folders of a tree that are subscribed to in one turn of the loop."""

_NAME = int(CompletionFilter.FILE_NAME)
_DIR_NAME = int(CompletionFilter.DIR_NAME)
_MODIFIED = int(
    CompletionFilter.SIZE
    | CompletionFilter.LAST_WRITE
    | CompletionFilter.STREAM_SIZE
    | CompletionFilter.STREAM_WRITE
)
_ATTRIBUTES = int(
    CompletionFilter.ATTRIBUTES
    | CompletionFilter.LAST_WRITE
    | CompletionFilter.LAST_ACCESS
    | CompletionFilter.CREATION
    | CompletionFilter.EA
    | CompletionFilter.SECURITY
)
"""What IN_ATTRIB may stand for when others caused it. What is said too much costs a client one more look."""
_RENAMED_FILE = int(CompletionFilter.ATTRIBUTES | CompletionFilter.CREATION)
"""Windows tells those who do not ask for names that a renamed file has been modified."""

_NAMES = (
    inotify.IN_CREATE
    | inotify.IN_DELETE
    | inotify.IN_MOVED_FROM
    | inotify.IN_MOVED_TO
    | inotify.IN_ONLYDIR
)

Tell = Callable[[int, int, str], None]
"""Filters, action and path below the folder; filters 0: there was more than could be told."""

_followed = 0


@dataclass(slots=True, eq=False)
class _Folder:
    """One folder that is followed."""

    path: str
    """Below the top; the top itself is the empty one. Changes with renames."""
    subscription: Subscription | None = None


class FolderChanges:
    """Follows one folder until it is closed."""

    def __init__(
        self,
        fd: int,
        completion_filter: int,
        whose: AbstractContextManager[None],
        tell: Tell,
        soon: Callable[[], None],
    ) -> None:
        self._fd = fd
        self._whose = whose
        self._tell = tell
        self._soon = soon
        """Asks for a call of `settle` in a moment."""
        self._filter = completion_filter
        self._mask = _NAMES
        if completion_filter & _MODIFIED:
            self._mask |= inotify.IN_MODIFY
        if completion_filter & _ATTRIBUTES:
            self._mask |= inotify.IN_ATTRIB
        self._tree = False
        self._folders: dict[str, _Folder] = {}
        self._moved: tuple[Event, str] | None = None
        """The first half of a rename, and the path that it leads from."""
        self._moved_long_ago = False
        self._unfollowed: deque[str] = deque()
        """What the walk has yet to come to."""
        self._walking: asyncio.Handle | None = None
        self._walk_began_ns = 0
        self._made: dict[str, float] = {}
        """What was made in the last `MAKING` seconds, oldest first, and when."""

    def follow(self, *, tree: bool) -> None:
        """Begin; OSError when the system lets nobody watch any more."""
        self._tree = tree
        self._subscribe("", f"/proc/self/fd/{self._fd}")
        if tree:
            self._follow_below("")

    def close(self) -> None:
        """End, and give the watches back."""
        if self._walking is not None:
            self._walking.cancel()
        for path in list(self._folders):
            self._unsubscribe(path)
        del self._tell, self._soon  # whoever is told holds us: a circle otherwise

    def settle(self) -> None:
        """Time has passed: a half rename has led out of the tree."""
        if self._moved is not None and not self._moved_long_ago:  # perhaps a moment ago
            self._moved_long_ago = True
            self._soon()
            return
        self._end_move()

    def _end_move(self) -> None:
        if self._moved is not None:
            (event, path), self._moved = self._moved, None
            self._told_removed(event, path)

    # 1. subscriptions

    def _subscribe(self, path: str, target: str) -> None:
        global _followed
        folder = _Folder(path)
        tell = partial(self._event, folder)
        folder.subscription = WATCHES.subscribe(target, self._mask, tell)
        self._folders[path] = folder
        _followed += 1

    def _unsubscribe(self, path: str) -> None:
        global _followed
        subscription = self._folders.pop(path).subscription
        if subscription is not None:
            WATCHES.unsubscribe(subscription)
        _followed -= 1

    def _follow_below(self, top: str) -> None:
        """Subscribes to a folder and those below it, nearest first. Links are not followed."""
        self._unfollowed.append(top)
        if self._walking is None:
            self._walk_began_ns = time.time_ns()
            self._walk()

    def _walk(self) -> None:
        self._walking = None
        for _ in range(SLICE):
            if not self._unfollowed:
                return
            folder = self._unfollowed.popleft()
            with self._whose, contextlib.suppress(OSError):
                if folder not in self._folders and not self._follow_folder(folder):
                    self._unfollowed.clear()
                    return
                self._unfollowed += [path for path, is_folder in self._list(folder) if is_folder]
                if self._has_changed(folder):
                    self._tell(0, 0, "")
        self._walking = asyncio.get_running_loop().call_soon(self._walk)

    def _has_changed(self, folder: str) -> bool:
        """Whether something came, went or was renamed there since the walk began; a time to come was set by hand."""
        fd = open_beneath(self._fd, folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            return self._walk_began_ns < os.fstat(fd).st_mtime_ns <= time.time_ns()
        finally:
            os.close(fd)

    def _list(self, folder: str) -> list[tuple[str, bool]]:
        """The paths in a folder, and whether they are folders."""
        fd = open_beneath(self._fd, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with os.scandir(fd) as entries:
                return [
                    (
                        f"{folder}/{one.name}" if folder else one.name,
                        one.is_dir(follow_symlinks=False),
                    )
                    for one in entries
                ]
        finally:
            os.close(fd)

    def _follow_folder(self, path: str) -> bool:
        """False: no more can be followed. A folder that has gone again, or that its user may not read, is none."""
        if _followed >= MAX_FOLDERS:
            log.warning(
                "changes below some folders are not told: %d are followed, which is the most that a worker follows",
                MAX_FOLDERS,
            )
            return False
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            fd = open_beneath(self._fd, path, flags)
        except OSError:
            return True
        try:
            self._subscribe(path, f"/proc/self/fd/{fd}")
        except PermissionError:
            return True
        except OSError as error:
            log.warning(
                "changes below some folders are not told: %s; raise fs.inotify.max_user_watches",
                error,
            )
            return False
        finally:
            os.close(fd)
        return True

    # 2. events

    def _event(self, folder: _Folder, event: Event) -> None:
        if event.mask & inotify.IN_Q_OVERFLOW:
            self._tell(0, 0, "")
            return
        if self._folders.get(folder.path) is not folder or not event.name:
            return  # given up meanwhile, or about the folder itself, which is for its parent's followers
        path = f"{folder.path}/{event.name}" if folder.path else event.name
        if self._moved is not None and event.cookie != self._moved[0].cookie:
            self._end_move()
        if not is_shown(event.name):
            return
        if event.mask & (inotify.IN_MOVED_FROM | inotify.IN_DELETE):
            self._forget_made(path)
        if event.mask & inotify.IN_MOVED_FROM:
            self._moved, self._moved_long_ago = (event, path), False
            self._soon()
        elif event.mask & inotify.IN_MOVED_TO:
            self._moved_to(event, path)
        elif event.mask & inotify.IN_CREATE:
            self._told_added(bool(event.mask & inotify.IN_ISDIR), path)
        elif event.mask & inotify.IN_DELETE:
            self._told_removed(event, path)
        elif event.mask & (inotify.IN_MODIFY | inotify.IN_ATTRIB):
            self._changed(event, path)

    def _changed(self, event: Event, path: str) -> None:
        """A client that has yet to hear of the file's making need not hear of this."""
        if event.mask & inotify.IN_MODIFY:
            kinds = _MODIFIED
        elif WATCHES.meant is not None:
            kinds = WATCHES.meant
        elif self._is_made(path):
            kinds = 0
        else:
            kinds = _ATTRIBUTES
        if kinds & self._filter:
            self._tell(kinds, FileAction.MODIFIED, path)

    def _told_added(self, is_directory: bool, path: str) -> None:
        """Also what was put into a new folder before it could be watched."""
        if self._is_made(path):
            return
        self._forget_the_long_made()
        self._made[path] = time.monotonic()
        self._tell(_DIR_NAME if is_directory else _NAME, FileAction.ADDED, path)
        if not self._tree or not is_directory or path in self._folders:
            return
        with self._whose, contextlib.suppress(OSError):
            if self._follow_folder(path) and path in self._folders:
                for inside, is_folder in self._list(path):
                    self._told_added(is_folder, inside)

    def _is_made(self, path: str) -> bool:
        """Whether it was made a moment ago."""
        return time.monotonic() - self._made.get(path, -math.inf) < MAKING

    def _forget_the_long_made(self) -> None:
        while self._made and not self._is_made(oldest := next(iter(self._made))):
            del self._made[oldest]

    def _forget_made(self, gone: str) -> None:
        """What has gone, with all below it."""
        self._forget_the_long_made()
        for path in [one for one in self._made if one == gone or one.startswith(f"{gone}/")]:
            del self._made[path]

    def _told_removed(self, event: Event, path: str) -> None:
        self._tell(_kind(event), FileAction.REMOVED, path)
        if event.mask & inotify.IN_ISDIR:
            self._forget_below(path)

    # 3. and 4. renames

    def _moved_to(self, event: Event, path: str) -> None:
        if self._moved is None:  # from outside
            self._tell(_kind(event), FileAction.ADDED, path)
            if self._tree and event.mask & inotify.IN_ISDIR:
                self._follow_below(path)
            return
        (_, old), self._moved = self._moved, None
        kind = _kind(event)
        if old.rpartition("/")[0] == path.rpartition("/")[0]:
            self._tell(kind, FileAction.RENAMED_OLD_NAME, old)
            self._tell(kind, FileAction.RENAMED_NEW_NAME, path)
        else:
            self._tell(kind, FileAction.REMOVED, old)
            self._tell(kind, FileAction.ADDED, path)
        if event.mask & inotify.IN_ISDIR:
            self._rename_below(old, path)
        elif not self._filter & _NAME:
            self._tell(_RENAMED_FILE, FileAction.MODIFIED, path)

    def _rename_below(self, old: str, new: str) -> None:
        self._unfollowed = deque(
            new + path[len(old) :] if path == old or path.startswith(f"{old}/") else path
            for path in self._unfollowed
        )
        for path in self._below(old):
            folder = self._folders.pop(path)
            folder.path = new + path[len(old) :]
            self._folders[folder.path] = folder

    def _forget_below(self, folder: str) -> None:
        for path in self._below(folder):
            self._unsubscribe(path)

    def _below(self, folder: str) -> list[str]:
        return [one for one in self._folders if one == folder or one.startswith(f"{folder}/")]


def _kind(event: Event) -> int:
    return _DIR_NAME if event.mask & inotify.IN_ISDIR else _NAME
