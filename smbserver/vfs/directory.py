"""An open directory and its entries."""

from __future__ import annotations

import errno
import os
import stat

from smbserver.vfs.dos_attributes import read_dos_attributes
from smbserver.vfs.handle import Handle
from smbserver.vfs.metadata import Metadata, metadata_of

_GONE = (errno.ENOENT, errno.EACCES, errno.ELOOP, errno.ENOTDIR)


class Directory(Handle):
    """A directory. One opened for its metadata only cannot be listed."""

    __slots__ = ()

    def __init__(self, fd: int, *, metadata_only: bool) -> None:
        super().__init__(fd, is_directory=True, metadata_only=metadata_only)

    def names(self) -> list[str]:
        """What the directory holds now, sorted, with `.` and `..`."""
        return [".", "..", *sorted(os.listdir(self.fd))]

    def is_empty(self) -> bool:
        """Whether it holds nothing at all, unnameable entries included."""
        fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(fd) as entries:
                return next(iter(entries), None) is None
        finally:
            os.close(fd)


def entry_metadata(directory: Directory, name: str, hidden: bool) -> Metadata | None:
    """Of one entry; None when it has gone since, or is a link, which only the share can follow safely."""
    if name in (".", ".."):  # the parent's facts are not shown: for the root they lie outside
        return directory.metadata()
    try:
        facts = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        if stat.S_ISLNK(facts.st_mode):
            return None
        stored = read_dos_attributes(f"/proc/self/fd/{directory.fd}/{name}")
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    return metadata_of(facts, stored, hidden)
