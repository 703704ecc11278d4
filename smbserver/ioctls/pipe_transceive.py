"""FSCTL_PIPE_TRANSCEIVE: a request into a pipe, and its answer back ([MS-SMB2] 3.3.5.15.4)."""

from __future__ import annotations

from smbserver.dispatch import Call
from smbserver.pipes.pipe import Pipe
from smbserver.wire.ioctl import IoctlRequest
from smbserver.wire.status import NtStatus, StatusError


def serve(call: Call, request: IoctlRequest) -> bytes:
    """What does not fit into the output waits for a READ."""
    if call.open is None or not isinstance(call.open.handle, Pipe):
        raise StatusError(NtStatus.INVALID_DEVICE_REQUEST)
    pipe = call.open.handle
    pipe.write(memoryview(request.input), 0)
    return pipe.association.take(request.max_output_response)
