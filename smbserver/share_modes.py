"""Which opens of one file stand together, and files that go away with their last open ([MS-FSA] 2.1.5.1.2, 2.1.5.4).

The table covers the opens of this process. Opens of other workers become visible when the table moves behind the
store that all workers share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smbserver import access
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.open import Open

SHARE_READ = 1
SHARE_WRITE = 2
SHARE_DELETE = 4

_CONFLICTS = (
    (access.READING, SHARE_READ),
    (access.WRITING, SHARE_WRITE),
    (access.DELETE, SHARE_DELETE),
)
_COUNTED = access.READING | access.WRITING | access.DELETE

Key = tuple[int, int, str]
"""Device, inode, and the folded name of an alternate data stream."""


@dataclass(slots=True, eq=False)
class SharedFile:
    """What all opens of one file have in common."""

    key: Key
    path: str
    """Below the share; a rename through one open moves it for all."""
    opens: list[Open] = field(default_factory=list)
    delete_pending: bool = False
    """It goes when the last open is closed; nobody opens it any more."""
    change_time: tuple[int, int] | None = None
    """A ChangeTime that a client has set, behind the real one that it stands for. Linux lets nobody set it."""


_files: dict[Key, SharedFile] = {}


def find(key: Key) -> SharedFile | None:
    """The file's entry, if anybody has it open."""
    return _files.get(key)


def check(key: Key, granted: int, share_access: int) -> None:
    """Refuses an open that its file's other opens exclude, or that excludes them."""
    file = _files.get(key)
    if file is None:
        return
    if file.delete_pending:
        raise StatusError(NtStatus.DELETE_PENDING)
    if not granted & _COUNTED:
        return
    for other in file.opens:
        if not other.granted_access & _COUNTED:
            continue
        for rights, shared in _CONFLICTS:
            if (granted & rights and not other.share_access & shared) or (
                other.granted_access & rights and not share_access & shared
            ):
                raise StatusError(NtStatus.SHARING_VIOLATION)


def enter(key: Key, path: str) -> SharedFile:
    """The entry that a new open joins."""
    file = _files.get(key)
    if file is None:
        file = _files[key] = SharedFile(key, path)
    return file


def leave(file: SharedFile, one: Open) -> bool:
    """Takes an open out; True if it was the last and the file is to be deleted now."""
    file.opens.remove(one)
    if file.opens:
        return False
    del _files[file.key]
    return file.delete_pending


def is_open_below(device: int, path: str) -> bool:
    """Whether anything below the directory at `path` is open."""
    prefix = f"{path}/"
    return any(key[0] == device and file.path.startswith(prefix) for key, file in _files.items())
