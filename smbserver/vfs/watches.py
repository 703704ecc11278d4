"""Following directories: one inotify instance, whoever follows what.

The kernel keeps one watch per inode and instance; several followers of one directory share it, and its mask is what
they want together. The kernel queues an event before the call that caused it returns. So a change that this process
makes itself can be told apart from those of others: what lies in the queue before it is handed out first, and what
lies there right after it is its own. `meaning` is how such a change says what it was, because for attributes,
security, extended attributes and streams inotify knows one word only, IN_ATTRIB.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from smbserver.vfs import inotify
from smbserver.vfs.inotify import Event, Inotify


@dataclass(slots=True, eq=False)
class Subscription:
    """One follower of one directory."""

    watch: int
    mask: int
    tell: Callable[[Event], None]


class Watches:
    """The followed directories of this process."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._followers: dict[int, list[Subscription]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters = 0
        self.meant: int | None = None
        """What IN_ATTRIB stands for just now, as bits of a CompletionFilter; None: a change made by others."""

    def subscribe(self, path: str, mask: int, tell: Callable[[Event], None]) -> Subscription:
        """Calls `tell` with every change from now on; OSError when the user's instances or watches are used up."""
        if self._inotify is None:
            self._inotify = Inotify()
        watch = self._inotify.watch(path, mask | inotify.IN_MASK_ADD)
        one = Subscription(watch, mask, tell)
        self._followers.setdefault(watch, []).append(one)
        return one

    def unsubscribe(self, one: Subscription) -> None:
        """Ends it; one whose directory has gone is no error."""
        followers = self._followers.get(one.watch, [])
        if one not in followers:
            return
        followers.remove(one)
        if not followers:
            del self._followers[one.watch]
            if self._inotify is not None:
                self._inotify.forget(one.watch)

    def follow(self) -> None:
        """Hands out what has changed; does not wait."""
        if self._inotify is None:
            return
        for event in self._inotify.events():
            if event.mask & inotify.IN_Q_OVERFLOW:
                told = [one for followers in self._followers.values() for one in followers]
            else:
                told = list(self._followers.get(event.watch, ()))
            if event.mask & inotify.IN_IGNORED:
                self._followers.pop(event.watch, None)
            for one in told:
                one.tell(event)

    def listen(self) -> None:
        """Hand changes out as they come, in the running loop, until `unlisten` was called as often."""
        self._waiters += 1
        loop = asyncio.get_running_loop()
        if self._inotify is not None and self._loop is not loop:
            self._loop = loop
            loop.add_reader(self._inotify.fd, self.follow)

    def unlisten(self) -> None:
        """Nobody who called `listen` needs it any more."""
        self._waiters -= 1
        if self._waiters or self._loop is None or self._inotify is None:
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(self._inotify.fd)
        self._loop = None

    @contextlib.contextmanager
    def meaning(self, completion_filter: int) -> Iterator[None]:
        """What is changed inside is a change of these kinds; 0: part of something that is told anyway."""
        if not self._waiters:
            yield
            return
        self.follow()
        try:
            yield
        finally:
            self.meant = completion_filter
            try:
                self.follow()
            finally:
                self.meant = None


WATCHES = Watches()
"""Of all shares of this process: the kernel allows a user few instances of inotify."""
