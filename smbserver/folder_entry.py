"""A file as an entry of its folder, for clients that keep the folder's listing under a lease ([MS-FSA] 2.1.5.18).

A listing is no longer right when an entry comes, goes or gets another name or other attributes; at once then. What is
written shows when the file is closed, as Windows does it. Who does it with the folder's own lease key in his CREATE
(ParentLeaseKey) knows of it, and is not told.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from smbserver.vfs.file import File

if TYPE_CHECKING:
    from smbserver.lease import Wish
    from smbserver.oplock import Caching
    from smbserver.share_modes import Key
    from smbserver.vfs import Share
    from smbserver.vfs.handle import Handle


class FolderEntry:
    """Belongs to one open."""

    __slots__ = ("_as_opened", "_caching", "_knows", "_own", "_share")

    def __init__(self, caching: Caching, share: Share, handle: Handle, wish: Wish) -> None:
        self._caching = caching
        self._share = share
        self._own, self._knows = wish.own_lease, wish.folder_lease
        self._as_opened = _written(handle)

    def changed(self, path: str) -> None:
        """The folder of the entry at `path` is no longer listed as it was."""
        with contextlib.suppress(
            OSError
        ):  # the folder has gone, and everybody who listed it with it
            folder = self._share.folder_identity(path)
            self._caching.folder_changed((*folder, ""), self._knows)

    def deleting(self, file: Key) -> None:
        """It goes when nobody has it open any more."""
        self._caching.deleting(file, self._own)

    def closing(self, handle: Handle, path: str) -> None:
        """Tell what was written in the meantime, through whichever open."""
        if self._as_opened is not None and _written(handle) != self._as_opened:
            self.changed(path)


def _written(handle: Handle) -> tuple[int, int] | None:
    """What writing changes of an entry: size and time of the last write."""
    if not isinstance(handle, File):
        return None
    facts = os.fstat(handle.fd)
    return facts.st_size, facts.st_mtime_ns
