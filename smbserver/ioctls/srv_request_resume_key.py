"""FSCTL_SRV_REQUEST_RESUME_KEY: a key that names an open as the source of a copy ([MS-SMB2] 3.3.5.15.5)."""

from __future__ import annotations

from smbserver.dispatch import Call
from smbserver.ioctls.data_open import open_of
from smbserver.wire.ioctl import IoctlRequest
from smbserver.wire.server_side_copy import SrvRequestResumeKeyResponse, resume_key
from smbserver.wire.status import NtStatus, StatusError


def serve(call: Call, request: IoctlRequest) -> bytes:
    """The key holds the FileId; the copy looks the open up again."""
    open_of(call)
    output = SrvRequestResumeKeyResponse(resume_key(request.file_id)).pack()
    if len(output) > request.max_output_response:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    return output
