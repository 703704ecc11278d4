"""The security descriptor of a file in the extended attribute in which Samba's vfs_acl_xattr keeps it.

The value is Samba's xattr_NTACL in NDR. Versions 1 to 4 are read; 4 is written, with hash type "none": with a hash of
the mode Samba would drop the descriptor as soon as somebody on the machine changes the mode. Offsets inside the
descriptor count from the start of the value. The `security.` name space is for the system's administrator alone:
a server that is not root keeps no descriptors.
"""

from __future__ import annotations

import errno
import os
import struct

XATTR = "security.NTACL"
"""Where it is unless a share's `acl_xattr:security_acl_name` says otherwise."""

_VERSION = struct.Struct("<HH")
"""Version, and once more as the switch of a union."""
_HEAD_4 = struct.Struct("<HHIIH64s10sQ64s")
"""Version twice, two pointers, hash type, hash, what the hash is of, time, hash of the mode."""
_POINTER = 0x00020000
_HASH_NONE = 0
_BEGINS = {1: 8, 2: 20, 3: 80, 4: 160}
"""Where the descriptor stands by version: behind version, pointers, and a time (2) or hashes (3, 4)."""
_DESCRIPTOR = struct.Struct("<BBHIIII")
_ABSENT = (errno.ENODATA, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOTSUP)


def pack(descriptor: bytes, time: int) -> bytes:
    """The value for a self-relative descriptor; `time` is a FILETIME."""
    head = _HEAD_4.pack(4, 4, _POINTER, _POINTER + 4, _HASH_NONE, b"", b"posix_acl\0", time, b"")
    return head + _moved(descriptor, len(head))


def parse(value: bytes) -> bytes | None:
    """The self-relative descriptor; None for a value of a form that is not known."""
    if len(value) < _VERSION.size:
        return None
    version, switch = _VERSION.unpack_from(value)
    begin = _BEGINS.get(version, 0)
    if version != switch or not begin or len(value) < begin + _DESCRIPTOR.size:
        return None
    return _moved(value[begin:], -begin)


def _moved(descriptor: bytes, by: int) -> bytes:
    revision, zero, control, *offsets = _DESCRIPTOR.unpack_from(descriptor)
    moved = [max(offset + by, 0) if offset else 0 for offset in offsets]
    return _DESCRIPTOR.pack(revision, zero, control, *moved) + descriptor[_DESCRIPTOR.size :]


def read(target: int | str, attribute: str = XATTR) -> bytes | None:
    """Of a descriptor or path; None when the file has none or its file system cannot hold any."""
    try:
        return parse(os.getxattr(target, attribute))
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return None


def write(target: int | str, descriptor: bytes, time: int, attribute: str = XATTR) -> bool:
    """False when the system does not let this process keep one."""
    try:
        os.setxattr(target, attribute, pack(descriptor, time))
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True
