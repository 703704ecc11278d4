"""Who of the workers lives: each holds a lock on the byte of its number, which the kernel drops with the process.

A client that loses its connection to a killed worker, and comes back at once, must not meet what that worker had open.
Linux lets go of a dead process's files from the highest descriptor down: the lock stands on a higher one than any
connection, and is gone when the client learns of the end.
"""

from __future__ import annotations

import fcntl
import os
import resource
import struct
from pathlib import Path

DESCRIPTOR = 32768
"""Above what one client's sessions have open, mostly; the kernel's table of descriptors takes 8 bytes for each."""

_FLOCK = struct.Struct("@hhqqi4x")
"""`struct flock` of 64-bit Linux: type, whence, start, length, pid."""


class Presence:
    """Open file description locks: no process can be taken for another that had its pid."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def announce(self, worker: int) -> bool:
        """This process is that worker from now on; False if another one is."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _lock(fcntl.F_WRLCK, worker))
        except BlockingIOError:
            return False
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        high = fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, min(DESCRIPTOR, limit - 1))
        os.close(self._fd)
        self._fd = high
        return True

    def is_alive(self, worker: int) -> bool:
        """Whether another process is that worker now."""
        answer = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK, worker))
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _lock(kind: int, worker: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, worker, 1, 0)
