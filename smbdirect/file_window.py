"""A stretch of a file as memory: what is sent of it goes from the page cache into the socket, copied once.

A byte behind the end of a file that was cut off meanwhile is not there: a program that touches it dies of SIGBUS, a
system call fails with EFAULT. So this memory is for system calls alone, and `Outgoing` knows what to do about the end.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Self


class FileWindow(mmap.mmap):
    """Mapped while somebody has a view of it, and for so long keeps a descriptor of its own."""

    start: int
    """Where in the file it begins."""

    def __new__(cls, fd: int, start: int, length: int) -> Self:
        """`start` is a multiple of mmap.PAGESIZE; all of it lies in the file now. ValueError or OSError."""
        window = super().__new__(cls, fd, length, prot=mmap.PROT_READ, offset=start)
        window.start = start
        return window

    def holds(self, offset: int, length: int) -> bool:
        return self.start <= offset and offset + length <= self.start + len(self)

    def view(self, offset: int, length: int) -> memoryview:
        """A range of the file that the window holds."""
        first = offset - self.start
        return memoryview(self)[first : first + length]

    @property
    def is_cut(self) -> bool:
        """Whether the file has lost its end since the window was made."""
        return self.size() < self.start + len(self)


def is_cut(part: bytes | bytearray | memoryview) -> bool:
    """Whether these are bytes of a window that is cut."""
    owner = part.obj if isinstance(part, memoryview) else None
    return isinstance(owner, FileWindow) and owner.is_cut


def rescue(part: bytes | bytearray | memoryview) -> bytes:
    """A copy of such bytes, with zeros for those that are gone. `write` stops in front of them, and lives."""
    fd = os.memfd_create("rescued", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, len(part))
        done = 0
        with contextlib.suppress(OSError):
            while done < len(part):
                done += os.write(fd, part[done:])
        return os.pread(fd, len(part), 0)
    finally:
        os.close(fd)
