"""Who of the workers lives: each holds a lock on the byte of its number, which the kernel drops with the process."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

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
