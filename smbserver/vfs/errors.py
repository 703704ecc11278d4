"""What the operating system refuses, in the words of the protocol."""

from __future__ import annotations

import errno

from smbserver.wire.status import NtStatus

_STATUS_OF_ERRNO = {
    errno.ENOENT: NtStatus.OBJECT_NAME_NOT_FOUND,
    errno.ELOOP: NtStatus.OBJECT_NAME_NOT_FOUND,
    errno.ENOTDIR: NtStatus.OBJECT_PATH_NOT_FOUND,
    errno.EACCES: NtStatus.ACCESS_DENIED,
    errno.EPERM: NtStatus.ACCESS_DENIED,
    errno.ENXIO: NtStatus.ACCESS_DENIED,
    errno.EROFS: NtStatus.MEDIA_WRITE_PROTECTED,
    errno.EEXIST: NtStatus.OBJECT_NAME_COLLISION,
    errno.EISDIR: NtStatus.FILE_IS_A_DIRECTORY,
    errno.ENOTEMPTY: NtStatus.DIRECTORY_NOT_EMPTY,
    errno.ENOSPC: NtStatus.DISK_FULL,
    errno.EDQUOT: NtStatus.DISK_FULL,
    errno.EFBIG: NtStatus.INVALID_PARAMETER,
    errno.EXDEV: NtStatus.NOT_SAME_DEVICE,
    errno.ENAMETOOLONG: NtStatus.OBJECT_NAME_INVALID,
    errno.EMFILE: NtStatus.TOO_MANY_OPENED_FILES,
    errno.ENFILE: NtStatus.TOO_MANY_OPENED_FILES,
    errno.ENOMEM: NtStatus.INSUFFICIENT_RESOURCES,
    errno.EINVAL: NtStatus.INVALID_PARAMETER,
    errno.EBUSY: NtStatus.SHARING_VIOLATION,
    errno.ETXTBSY: NtStatus.SHARING_VIOLATION,
    errno.ENOTSUP: NtStatus.NOT_SUPPORTED,
    errno.EMLINK: NtStatus.TOO_MANY_LINKS,
    errno.EIO: NtStatus.UNEXPECTED_IO_ERROR,
    errno.EBADF: NtStatus.FILE_CLOSED,
}


def status_of(error: OSError) -> NtStatus:
    """The status a client gets for a failed system call ([MS-ERREF] 2.3.1)."""
    return _STATUS_OF_ERRNO.get(error.errno or 0, NtStatus.UNSUCCESSFUL)
