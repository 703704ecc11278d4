"""IOCTL: controls of files, pipes and of the server itself ([MS-SMB2] 3.3.5.15). One file per control in `ioctls/`."""

from __future__ import annotations

from collections.abc import Callable

from smbserver.dispatch import Call, Reply
from smbserver.ioctls import query_network_interface_info, validate_negotiate_info
from smbserver.wire.ioctl import CtlCode, IoctlFlags, IoctlRequest, IoctlResponse
from smbserver.wire.status import NtStatus, StatusError

CONTROLS: dict[int, Callable[[Call, IoctlRequest], bytes]] = {
    CtlCode.FSCTL_QUERY_NETWORK_INTERFACE_INFO: query_network_interface_info.serve,
    CtlCode.FSCTL_VALIDATE_NEGOTIATE_INFO: validate_negotiate_info.serve,
}
"""Controls that are carried out; each returns the output."""

REFUSALS: dict[int, NtStatus] = {
    CtlCode.FSCTL_DFS_GET_REFERRALS: NtStatus.FS_DRIVER_REQUIRED,
    CtlCode.FSCTL_DFS_GET_REFERRALS_EX: NtStatus.FS_DRIVER_REQUIRED,
    CtlCode.FSCTL_PIPE_WAIT: NtStatus.OBJECT_NAME_NOT_FOUND,
    CtlCode.FSCTL_SRV_READ_HASH: NtStatus.HASH_NOT_SUPPORTED,
}
"""What clients expect to hear when a control is not offered, whether they named an open or not."""

OPEN_REFUSALS: dict[int, NtStatus] = {
    CtlCode.FSCTL_GET_REPARSE_POINT: NtStatus.NOT_A_REPARSE_POINT,
    CtlCode.FSCTL_LMR_REQUEST_RESILIENCY: NtStatus.NOT_SUPPORTED,
}
"""The same for controls of an open; INVALID_DEVICE_REQUEST where nothing stands here."""


def serve(call: Call) -> Reply:
    """Carry the control out, or refuse it."""
    request = IoctlRequest.parse(call.message)
    limit = call.connection.max_transact_size
    if request.flags & IoctlFlags.IS_FSCTL == 0:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    if max(len(request.input), request.max_output_response, request.max_input_response) > limit:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    control = CONTROLS.get(request.ctl_code)
    if control is not None:
        output = control(call, request)
        if len(output) > request.max_output_response:
            raise StatusError(NtStatus.BUFFER_TOO_SMALL)
        return Reply(IoctlResponse(request.ctl_code, request.file_id, output).pack())
    if request.ctl_code in REFUSALS:
        raise StatusError(REFUSALS[request.ctl_code])
    if call.open is None:
        raise StatusError(NtStatus.FILE_CLOSED)
    raise StatusError(OPEN_REFUSALS.get(request.ctl_code, NtStatus.INVALID_DEVICE_REQUEST))
