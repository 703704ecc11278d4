"""inotify(7): what changes in a directory, told by the kernel before the call that changed it returns."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

IN_MODIFY = 0x00000002
IN_ATTRIB = 0x00000004
IN_MOVED_FROM = 0x00000040
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_DELETE_SELF = 0x00000400
IN_MOVE_SELF = 0x00000800
IN_UNMOUNT = 0x00002000
IN_Q_OVERFLOW = 0x00004000
IN_IGNORED = 0x00008000
IN_ONLYDIR = 0x01000000
IN_MASK_ADD = 0x20000000
IN_ISDIR = 0x40000000

_READ_SIZE = 64 << 10
"""Bytes of events per read, some thousand of them."""

_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


@dataclass(slots=True)
class Event:
    """One change."""

    watch: int
    """-1 if the kernel dropped events (IN_Q_OVERFLOW)."""
    mask: int
    name: str
    cookie: int = 0
    """The same for the two halves of a rename."""


class Inotify:
    """One instance; the kernel allows a user 128 of them by default, so a process has one."""

    def __init__(self) -> None:
        self.fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def watch(self, path: str, mask: int) -> int:
        """The number under which changes of a path will be told; the same for the same inode."""
        number = _libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return int(number)

    def forget(self, watch: int) -> None:
        """Ends a watch; one that has ended by itself is no error."""
        _libc.inotify_rm_watch(self.fd, ctypes.c_int(watch))

    def events(self) -> Iterator[Event]:
        """What has changed since the last call; does not wait."""
        while True:
            try:
                data = os.read(self.fd, _READ_SIZE)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return
                raise
            at = 0
            while at < len(data):
                watch, mask, cookie, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
                yield Event(watch, mask, name, cookie)
                at += length
