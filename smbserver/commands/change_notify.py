"""CHANGE_NOTIFY: word of changes in a folder ([MS-SMB2] 3.3.5.19, [MS-FSA] 2.1.5.11).

1. the first request on an open fixes filter, depth and room, and changes are kept from then on;
2. what was kept between two requests answers the next one at once;
3. a request that waits is answered when the change is whole, with all that has come by then;
4. what does not fit is forgotten: the client is told to list the folder again (NOTIFY_ENUM_DIR);
5. the end of the open answers NOTIFY_CLEANUP, and that of the folder DELETE_PENDING.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable

from smbserver import access
from smbserver.acting import acting_for
from smbserver.dispatch import Call, Reply
from smbserver.open import Open
from smbserver.vfs.folder_changes import FolderChanges
from smbserver.vfs.watches import WATCHES
from smbserver.wire.change_notify import (
    ChangeNotifyFlags,
    ChangeNotifyRequest,
    ChangeNotifyResponse,
    FileAction,
    FileNotifyInformation,
)
from smbserver.wire.status import NtStatus, StatusError

log = logging.getLogger(__name__)

SETTLING = 0.005
"""Seconds that the second half of a rename has to come. Other changes are answered at once."""

_LEAST = 12
"""Bytes of a FILE_NOTIFY_INFORMATION without its name."""


class Notifier:
    """The changes that one open has yet to hear of, and the requests that wait for them."""

    def __init__(self, opened: Open, request: ChangeNotifyRequest) -> None:
        self._opened = opened
        self._room = request.output_buffer_length
        self._filter = request.completion_filter
        self._kept: list[FileNotifyInformation] = []
        self._size = 0
        self._lost = False
        self._waiting: deque[tuple[asyncio.Future[Reply], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._answering: asyncio.Handle | None = None
        whose = acting_for(opened.tree)
        self._changes = FolderChanges(opened.handle.fd, self._filter, whose, self._tell, self._soon)
        self._follow(bool(request.flags & ChangeNotifyFlags.WATCH_TREE))
        opened.on_close.append(self.close)

    def _follow(self, tree: bool) -> None:
        WATCHES.follow()  # what lies there has happened before
        try:
            with acting_for(self._opened.tree):
                self._changes.follow(tree=tree)
        except OSError as error:
            # A client that is refused stops working (Finder freezes); one that waits refreshes later.
            log.warning("%s: changes are not told: %s", self._opened.path, error)
        WATCHES.listen()

    def take(self, room: int) -> Reply | None:
        """The answer to a request, if there is something to tell."""
        WATCHES.follow()
        if not self._kept and not self._lost:
            return None
        kept, lost = self._kept, self._lost
        self._kept, self._size, self._lost = [], 0, False
        packed = b"" if lost else FileNotifyInformation.pack_all(kept)
        if lost or len(packed) > min(room, self._room):
            return Reply(ChangeNotifyResponse().pack(), NtStatus.NOTIFY_ENUM_DIR)
        return Reply(ChangeNotifyResponse(packed).pack())

    def wait(self, room: int) -> asyncio.Future[Reply]:
        """The answer, when there is one. It waits from now on, not from the loop's next turn: CLOSE may come first."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        waiting = answer, room
        self._waiting.append(waiting)
        answer.add_done_callback(lambda _: self._forget(waiting))
        return answer

    def _forget(self, waiting: tuple[asyncio.Future[Reply], int]) -> None:
        with contextlib.suppress(ValueError):  # it was answered
            self._waiting.remove(waiting)

    def _tell(self, kinds: int, action: int, path: str) -> None:
        if not kinds:
            self._lost = True
        elif kinds & self._filter and not self._lost and self._is_visible(path):
            entry = FileNotifyInformation(action, path.replace("/", "\\"))
            if action == FileAction.MODIFIED and entry in self._kept:
                return
            self._kept.append(entry)
            self._size += _LEAST + 2 * len(path)
            self._lost = self._size > self._room
        else:
            return
        if self._lost:
            self._kept.clear()
        if self._answering is None:
            self._answering = asyncio.get_running_loop().call_soon(self._answer)

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLING, self._settle)

    def _is_visible(self, path: str) -> bool:
        share = self._opened.tree.vfs
        return share is None or all(share.is_visible(part) for part in path.split("/"))

    def _settle(self) -> None:
        self._timer = None
        WATCHES.follow()
        self._changes.settle()

    def _answer(self) -> None:
        self._answering = None
        while self._waiting:
            answer, room = self._waiting[0]
            if not answer.done():
                reply = self.take(room)
                if reply is None:
                    return
                answer.set_result(reply)
            self._waiting.popleft()

    def end(self, status: NtStatus) -> None:
        """Answer all that wait."""
        while self._waiting:
            answer, _ = self._waiting.popleft()
            if not answer.done():
                answer.set_result(Reply(ChangeNotifyResponse().pack(), status))

    def close(self) -> None:
        """The open has ended."""
        self.end(NtStatus.NOTIFY_CLEANUP)
        for scheduled in (self._timer, self._answering):
            if scheduled is not None:
                scheduled.cancel()
        self._changes.close()
        WATCHES.unlisten()


def serve(call: Call) -> Reply | Awaitable[Reply]:
    """Tell what was kept, or wait."""
    request = ChangeNotifyRequest.parse(call.message)
    opened = call.open
    assert opened is not None  # the opcode table asks for it
    _check(call, opened, request)
    notifier = opened.notifier
    if notifier is None:
        notifier = opened.notifier = Notifier(opened, request)
    reply = notifier.take(request.output_buffer_length)
    if reply is not None:
        return reply
    if not call.connection.may_wait():
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    return notifier.wait(request.output_buffer_length)


def _check(call: Call, opened: Open, request: ChangeNotifyRequest) -> None:
    if request.output_buffer_length > call.connection.max_transact_size:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not opened.is_directory:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not opened.granted_access & access.LIST_DIRECTORY:
        raise StatusError(NtStatus.ACCESS_DENIED)
    if not opened.tree.share.change_notify:
        raise StatusError(NtStatus.NOT_IMPLEMENTED)
    if opened.file.delete_pending:
        raise StatusError(NtStatus.DELETE_PENDING)
