"""FSCTL_SET_ZERO_DATA: a range becomes zeros, and a hole where the file is sparse ([MS-FSA] 2.1.5.10.38)."""

from __future__ import annotations

from smbserver import access, locks
from smbserver.dispatch import Call
from smbserver.ioctls.data_open import data_of, open_of
from smbserver.vfs.errors import status_of
from smbserver.vfs.threads import in_thread
from smbserver.wire.file_ranges import FileZeroDataInformation
from smbserver.wire.ioctl import IoctlRequest
from smbserver.wire.status import NtStatus, StatusError


async def serve(call: Call, request: IoctlRequest) -> bytes:
    """The end of the file stays where it is."""
    zero = FileZeroDataInformation.parse(request.input)
    opened = open_of(call)
    handle = data_of(opened, access.WRITE_DATA)
    length = zero.beyond_final_zero - zero.file_offset
    if zero.file_offset < 0 or length < 0:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not length:
        return b""
    if not locks.may_access(opened, zero.file_offset, length, writing=True):
        raise StatusError(NtStatus.FILE_LOCK_CONFLICT)
    call.connection.service.caching.modified(opened)
    try:
        with handle:
            await in_thread(handle.zero, zero.file_offset, length)
    except OSError as error:
        raise StatusError(status_of(error)) from error
    return b""
