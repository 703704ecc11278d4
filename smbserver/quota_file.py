r"""`$Extend\$Quota:$Q`: by it clients ask who may fill how much of a volume ([MS-FSCC] 2.4.36, [MS-SMB2] 3.3.5.20.4).

There is no such file on disk. Quotas are the file system's and its administrator's business here: the list is empty.
"""

from __future__ import annotations

import os

from smbserver import access, share_modes
from smbserver.open import Open
from smbserver.tree import Tree
from smbserver.vfs import dos_attributes as dos
from smbserver.vfs.metadata import Metadata
from smbserver.vfs.names import QUOTA_STREAM, ShareName, fold
from smbserver.vfs.stream import Stream
from smbserver.wire.status import NtStatus, StatusError

FOLDER, FILE = "$EXTEND", "$QUOTA"

_KEY = (0, 0, QUOTA_STREAM)
_RIGHTS = 0x00120089
"""FILE_GENERIC_READ."""
_ATTRIBUTES = dos.HIDDEN | dos.SYSTEM | dos.DIRECTORY | dos.ARCHIVE


class QuotaFile(Stream):
    """Empty; its descriptor, which every handle has, leads nowhere."""

    __slots__ = ()

    def __init__(self) -> None:
        fd = os.open(os.devnull, os.O_PATH | os.O_CLOEXEC)
        super().__init__(fd, QUOTA_STREAM, is_directory=False)

    def metadata(self, hidden: bool = False) -> Metadata:
        """It has never been made, and never changes."""
        return Metadata(False, 0, 1, 0, 0, _ATTRIBUTES, 0, 0, 0, 0)

    def _load(self) -> bytes:
        return b""


def is_quota_file(name: ShareName) -> bool:
    """Whether a name means it."""
    return name.stream == QUOTA_STREAM and tuple(map(fold, name.components)) == (FOLDER, FILE)


def open_quota_file(tree: Tree, desired: int) -> Open:
    """For administrators only."""
    user = tree.session.user
    if user is None or user.uid != 0:
        raise StatusError(NtStatus.ACCESS_DENIED)
    granted = access.grant(desired, _RIGHTS & tree.maximal_access)
    file = share_modes.enter(_KEY, f"{FOLDER}/{FILE}", access.READ_ATTRIBUTES, 7)
    return Open(tree=tree, handle=QuotaFile(), file=file, granted_access=granted, share_access=7)
