"""An open file's data.

Reads and writes take memoryviews and fill or drain them whole, so that nobody above deals with a short count that
is not the end of the file. What may block says so: `read_now` never does.
"""

from __future__ import annotations

import ctypes
import errno
import os

from smbserver.vfs import windows
from smbserver.vfs.handle import Handle

_WOULD_BLOCK = (errno.EAGAIN, errno.EWOULDBLOCK)

_BLOCK = 512
"""Bytes that st_blocks counts in, whatever the file system's are (stat(2))."""

_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2

_ZEROS = bytes(1 << 20)
"""Written where a file system cannot make holes."""

_libc_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_libc_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class File(Handle):
    """A regular file."""

    __slots__ = ("_always_cached",)

    def __init__(self, fd: int, *, metadata_only: bool) -> None:
        super().__init__(fd, is_directory=False, metadata_only=metadata_only)
        self._always_cached = False

    @property
    def size(self) -> int:
        """Bytes up to the end of the file."""
        return os.fstat(self.fd).st_size

    def close(self) -> None:
        """As `Handle.close`; nothing of it stays mapped but what is still to be sent."""
        windows.forget(self)
        super().close()

    def mapped(self, offset: int, length: int) -> memoryview | None:
        """All of the range as it lies in the page cache, to be given to system calls only.

        None when it is not there without waiting for a disk, or when the file ends before, cannot be mapped, or has
        holes: on tmpfs, who looks at a hole through a mapping fills it.
        """
        facts = os.fstat(self.fd)
        size = facts.st_size
        if offset + length > size or facts.st_blocks * _BLOCK < size:
            return None
        try:
            # The ends stand for what lies between: a file is read ahead, and forgotten, in long runs.
            if self._is_cached(offset) and self._is_cached(offset + length - 1):
                return windows.view(self, size, offset, length)
        except (OSError, ValueError):  # the second is Python's for a file that was cut off just now
            pass
        return None

    def _is_cached(self, offset: int) -> bool:
        """Whether a byte can be had at once."""
        return self.read_now(memoryview(bytearray(1)), offset) >= 0

    def read_now(self, buffer: memoryview, offset: int) -> int:
        """Bytes read without waiting for a disk; -1 when that cannot be done.

        A file system that does not know RWF_NOWAIT is tmpfs or the like, whose files are always in memory, or a
        network file system; it is found out once per handle and then read as it comes.
        """
        if self._always_cached:
            return self.read(buffer, offset)
        done, length = 0, len(buffer)
        try:
            while done < length:
                got = os.preadv(
                    self.fd, [buffer[done:] if done else buffer], offset + done, os.RWF_NOWAIT
                )
                if got == 0:
                    break
                done += got
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return -1
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._always_cached = True
            return self.read(buffer, offset)
        return done

    def read(self, buffer: memoryview, offset: int) -> int:
        """Bytes read; fewer than the buffer holds only at the end of the file."""
        done, length = 0, len(buffer)
        while done < length:
            got = os.preadv(self.fd, [buffer[done:] if done else buffer], offset + done)
            if got == 0:
                break
            done += got
        return done

    def write(self, buffer: memoryview, offset: int) -> int:
        """Writes all of the buffer."""
        done, length = 0, len(buffer)
        while done < length:
            done += os.pwritev(self.fd, [buffer[done:] if done else buffer], offset + done)
        return done

    def sync_data(self) -> None:
        """Returns when data and size are on disk; what write-through promises."""
        os.fdatasync(self.fd)

    def truncate(self, size: int) -> None:
        """Makes the file that long; what is added reads as zeros."""
        os.ftruncate(self.fd, size)

    def allocate(self, size: int) -> None:
        """Reserves room up to `size` without changing the end of the file ([MS-FSA] 2.1.5.14.1)."""
        if size > self.size:
            _fallocate_keep_size(self.fd, 0, size)

    def zero(self, offset: int, length: int) -> None:
        """Makes a range zeros without moving the end: a hole of a sparse file, reserved room of another."""
        length = min(length, max(self.size - offset, 0))
        if not length:
            return
        mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
        if _libc_fallocate(self.fd, mode, offset, length) < 0:
            code = ctypes.get_errno()
            if code != errno.EOPNOTSUPP:
                raise OSError(code, os.strerror(code))
            for start in range(offset, offset + length, len(_ZEROS)):
                rest = offset + length - start
                self.write(memoryview(_ZEROS)[:rest], start)
        elif not self.is_sparse:
            _fallocate_keep_size(self.fd, offset, length)

    def data_ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """Start and end of every piece of data within a range; one piece for a file that is not sparse."""
        end = min(end, self.size)
        if first >= end:
            return []
        if not self.is_sparse:
            return [(first, end)]
        found = []
        try:
            while first < end:
                first = os.lseek(self.fd, first, os.SEEK_DATA)
                hole = min(os.lseek(self.fd, first, os.SEEK_HOLE), end)
                if first < end:
                    found.append((first, hole))
                first = hole
        except OSError as error:
            if error.errno != errno.ENXIO:  # a hole up to the end
                raise
        return found


def _fallocate_keep_size(fd: int, offset: int, length: int) -> None:
    """Python's posix_fallocate would move the end of the file."""
    if _libc_fallocate(fd, _FALLOC_FL_KEEP_SIZE, offset, length) == 0:
        return
    code = ctypes.get_errno()
    if code != errno.EOPNOTSUPP:  # a file system without reservations promises nothing
        raise OSError(code, os.strerror(code))
