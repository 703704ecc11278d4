"""openat2(2): opens a path so that no `..`, symbolic link or race can lead out of a folder.

Python has no wrapper for it; a call takes about two microseconds through ctypes, GIL released.
"""

from __future__ import annotations

import ctypes
import errno
import os

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_BENEATH = 0x08

_SYS_OPENAT2 = 437
"""The same number on every architecture: it was added after the tables were unified."""

_RACE_RETRIES = 32
"""EAGAIN means that a rename elsewhere made the kernel unsure whether a `..` stayed inside."""


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW_SIZE = ctypes.c_size_t(ctypes.sizeof(_OpenHow))
_NUMBER = ctypes.c_long(_SYS_OPENAT2)
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def open_beneath(folder: int, path: str, flags: int, mode: int = 0) -> int:
    """Opens `path` relative to the directory descriptor `folder`; links that stay inside are followed.

    A path that leads out is refused as EACCES, so that EXDEV keeps its own meaning for rename and link.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    name = os.fsencode(path or ".")
    for _ in range(_RACE_RETRIES):
        fd = _syscall(
            _NUMBER, ctypes.c_int(folder), ctypes.c_char_p(name), ctypes.byref(how), _HOW_SIZE
        )
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    if code == errno.EXDEV:
        code = errno.EACCES
    raise OSError(code, os.strerror(code), path)


def require_openat2() -> None:
    """Fails early and in words on a kernel without openat2."""
    try:
        fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            os.close(open_beneath(fd, ".", os.O_PATH))
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        raise RuntimeError(
            "this kernel or sandbox does not offer openat2(2), which keeps clients inside a share:"
            " Linux 5.6 or newer is needed, and a seccomp profile that allows it"
        ) from error
