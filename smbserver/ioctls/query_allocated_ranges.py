"""FSCTL_QUERY_ALLOCATED_RANGES: where a file has data ([MS-FSA] 2.1.5.10.22)."""

from __future__ import annotations

from smbserver import access
from smbserver.dispatch import Call, Reply
from smbserver.ioctls.data_open import data_of, open_of
from smbserver.vfs.errors import status_of
from smbserver.wire.file_ranges import FileAllocatedRangeBuffer
from smbserver.wire.ioctl import IoctlRequest, IoctlResponse
from smbserver.wire.status import NtStatus, StatusError

_END = 1 << 63


def serve(call: Call, request: IoctlRequest) -> bytes | Reply:
    """As many ranges as there is room for; the status says whether there are more."""
    asked = FileAllocatedRangeBuffer.parse(request.input)
    handle = data_of(open_of(call), access.READ_DATA)
    end = asked.file_offset + asked.length
    if asked.file_offset < 0 or asked.length < 0 or end >= _END:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    try:
        found = handle.data_ranges(asked.file_offset, end)
    except OSError as error:
        raise StatusError(status_of(error)) from error
    room = request.max_output_response // FileAllocatedRangeBuffer.SIZE
    if found and not room:
        raise StatusError(NtStatus.BUFFER_TOO_SMALL)
    output = FileAllocatedRangeBuffer.pack_all(
        FileAllocatedRangeBuffer(first, last - first) for first, last in found[:room]
    )
    if len(found) <= room:
        return output
    response = IoctlResponse(request.ctl_code, request.file_id, output)
    return Reply(response.pack(), NtStatus.BUFFER_OVERFLOW)
