"""What controls of a file's data begin with: an open of data, with the right to touch it."""

from __future__ import annotations

from smbserver.dispatch import Call
from smbserver.open import Data, Open
from smbserver.vfs.directory import Directory
from smbserver.wire.status import NtStatus, StatusError


def open_of(call: Call) -> Open:
    """The open that the request names."""
    if call.open is None:
        raise StatusError(NtStatus.FILE_CLOSED)
    return call.open


def data_of(opened: Open, rights: int) -> Data:
    """The handle of a file or stream that was opened with one of these rights."""
    handle = opened.handle
    if isinstance(handle, Directory):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not opened.granted_access & rights:
        raise StatusError(NtStatus.ACCESS_DENIED)
    return handle
