"""On whose behalf files are touched: the user's Unix identity, where the server runs as root.

Linux keeps the identity for file access per thread. Commands that look at names or permissions run in the loop's thread
inside an identity (acting.py); the threads that read and write only use descriptors that were opened so, and stay as
they are.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pwd
from types import TracebackType

NOBODY = 65534
"""User and group of whom the system does not know."""

_SYS_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159}
"""The C library's setgroups would change all threads."""

_libc = ctypes.CDLL(None, use_errno=True)


class Identity:
    """User, group and supplementary groups; inside `with` the thread's file access is theirs."""

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...]) -> None:
        self.uid, self.gid, self.groups = uid, gid, groups
        self._outer: list[Identity] = []

    def __enter__(self) -> None:
        global _current
        self._outer.append(_current)
        _current = self
        self._assume(self._outer[-1])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        global _current
        _current = self._outer.pop()
        _current._assume(self)

    def _assume(self, before: Identity) -> None:
        if before is self:
            return
        _set_groups(self.groups)
        _libc.setfsgid(self.gid)
        _libc.setfsuid(self.uid)
        if (
            _libc.setfsuid(-1) != self.uid
        ):  # an invalid id changes nothing and tells the present one
            raise PermissionError(f"file access as user {self.uid} was refused by the system")


def _set_groups(groups: tuple[int, ...]) -> None:
    number = _SYS_SETGROUPS.get(os.uname().machine)
    if number is None:
        os.setgroups(groups)
        return
    if _libc.syscall(number, len(groups), (ctypes.c_uint32 * len(groups))(*groups)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


SERVER = Identity(os.geteuid(), os.getegid(), tuple(os.getgroups()))
"""Of this process; never changed."""
_current = SERVER


@functools.lru_cache(maxsize=1024)
def identity_of(uid: int, gid: int | None = None) -> Identity:
    """Of a Unix user, whose group is `gid` if given; the server's own where it cannot act as others, or need not."""
    if os.geteuid() != 0 or (uid == 0 and gid is None):
        return SERVER
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return Identity(uid, NOBODY if gid is None else gid, ())
    groups = tuple(os.getgrouplist(user.pw_name, user.pw_gid))
    return Identity(uid, user.pw_gid if gid is None else gid, groups)


def user_id(name: str) -> int:
    """The Unix user id of a name; that of nobody where the system does not know it.

    The server's own where it cannot act as others.
    """
    if os.geteuid() != 0:
        return os.geteuid()
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return NOBODY
