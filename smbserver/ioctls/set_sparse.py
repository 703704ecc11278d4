"""FSCTL_SET_SPARSE: a file may have holes, or shall have none ([MS-FSA] 2.1.5.10.37)."""

from __future__ import annotations

from smbserver import access
from smbserver.dispatch import Call
from smbserver.ioctls.data_open import data_of, open_of
from smbserver.vfs.errors import status_of
from smbserver.wire.file_ranges import parse_set_sparse
from smbserver.wire.ioctl import IoctlRequest
from smbserver.wire.status import StatusError


def serve(call: Call, request: IoctlRequest) -> bytes:
    """The attribute is all that changes: every file here may have holes."""
    handle = data_of(open_of(call), access.WRITING | access.WRITE_ATTRIBUTES)
    try:
        handle.set_sparse(parse_set_sparse(request.input))
    except OSError as error:
        raise StatusError(status_of(error)) from error
    return b""
