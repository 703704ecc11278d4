"""IOCTL: controls of files, pipes and of the server itself ([MS-SMB2] 3.3.5.15). One file per control in `ioctls/`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from smbserver.dispatch import Call, Reply
from smbserver.ioctls import (
    compression,
    object_id,
    pipe_transceive,
    query_allocated_ranges,
    query_network_interface_info,
    set_sparse,
    set_zero_data,
    srv_copychunk,
    srv_request_resume_key,
    validate_negotiate_info,
)
from smbserver.wire.file_id import ALL_ONES
from smbserver.wire.ioctl import CtlCode, IoctlFlags, IoctlRequest, IoctlResponse
from smbserver.wire.status import NtStatus, StatusError

Outcome = bytes | Reply
"""The output, or a whole reply where there is output beside a status."""

CONTROLS: dict[int, Callable[[Call, IoctlRequest], Outcome | Awaitable[Outcome]]] = {
    CtlCode.FSCTL_CREATE_OR_GET_OBJECT_ID: object_id.serve,
    CtlCode.FSCTL_GET_COMPRESSION: compression.get_format,
    CtlCode.FSCTL_GET_OBJECT_ID: object_id.serve,
    CtlCode.FSCTL_QUERY_ALLOCATED_RANGES: query_allocated_ranges.serve,
    CtlCode.FSCTL_QUERY_NETWORK_INTERFACE_INFO: query_network_interface_info.serve,
    CtlCode.FSCTL_SET_COMPRESSION: compression.set_format,
    CtlCode.FSCTL_SET_SPARSE: set_sparse.serve,
    CtlCode.FSCTL_SET_ZERO_DATA: set_zero_data.serve,
    CtlCode.FSCTL_SRV_COPYCHUNK: srv_copychunk.serve,
    CtlCode.FSCTL_SRV_COPYCHUNK_WRITE: srv_copychunk.serve,
    CtlCode.FSCTL_SRV_REQUEST_RESUME_KEY: srv_request_resume_key.serve,
    CtlCode.FSCTL_PIPE_TRANSCEIVE: pipe_transceive.serve,
    CtlCode.FSCTL_VALIDATE_NEGOTIATE_INFO: validate_negotiate_info.serve,
}
"""Controls that are carried out."""

WITHOUT_OPEN = (
    CtlCode.FSCTL_QUERY_NETWORK_INTERFACE_INFO,
    CtlCode.FSCTL_VALIDATE_NEGOTIATE_INFO,
)
"""Controls of the server itself, whose FileId is all ones ([MS-SMB2] 2.2.31)."""

REFUSALS: dict[int, NtStatus] = {
    CtlCode.FSCTL_DFS_GET_REFERRALS: NtStatus.FS_DRIVER_REQUIRED,
    CtlCode.FSCTL_DFS_GET_REFERRALS_EX: NtStatus.FS_DRIVER_REQUIRED,
    CtlCode.FSCTL_PIPE_WAIT: NtStatus.OBJECT_NAME_NOT_FOUND,
    CtlCode.FSCTL_SRV_READ_HASH: NtStatus.HASH_NOT_SUPPORTED,
}
"""What clients expect to hear when a control is not offered, whether they named an open or not."""

OPEN_REFUSALS: dict[int, NtStatus] = {
    CtlCode.FSCTL_DELETE_REPARSE_POINT: NtStatus.NOT_A_REPARSE_POINT,
    CtlCode.FSCTL_GET_REPARSE_POINT: NtStatus.NOT_A_REPARSE_POINT,
    CtlCode.FSCTL_SET_REPARSE_POINT: NtStatus.NOT_A_REPARSE_POINT,
    CtlCode.FSCTL_LMR_REQUEST_RESILIENCY: NtStatus.NOT_SUPPORTED,
}
"""The same for controls of an open; INVALID_DEVICE_REQUEST where nothing stands here."""


def serve(call: Call) -> Reply | Awaitable[Reply]:
    """Carry the control out, or refuse it."""
    request = IoctlRequest.parse(call.message)
    limit = call.connection.max_transact_size
    if request.flags & IoctlFlags.IS_FSCTL == 0:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    if max(len(request.input), request.max_output_response, request.max_input_response) > limit:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if request.ctl_code in WITHOUT_OPEN and request.file_id != ALL_ONES:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    control = CONTROLS.get(request.ctl_code)
    if control is not None:
        outcome = control(call, request)
        if isinstance(outcome, Awaitable):
            return _reply_later(request, outcome)
        return _reply(request, outcome)
    if request.ctl_code in REFUSALS:
        raise StatusError(REFUSALS[request.ctl_code])
    if call.open is None:
        raise StatusError(NtStatus.FILE_CLOSED)
    raise StatusError(OPEN_REFUSALS.get(request.ctl_code, NtStatus.INVALID_DEVICE_REQUEST))


async def _reply_later(request: IoctlRequest, outcome: Awaitable[Outcome]) -> Reply:
    return _reply(request, await outcome)


def _reply(request: IoctlRequest, outcome: Outcome) -> Reply:
    if isinstance(outcome, Reply):
        return outcome
    if len(outcome) > request.max_output_response:
        raise StatusError(NtStatus.BUFFER_TOO_SMALL)
    return Reply(IoctlResponse(request.ctl_code, request.file_id, outcome).pack())
