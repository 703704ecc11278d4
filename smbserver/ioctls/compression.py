"""FSCTL_GET_COMPRESSION and FSCTL_SET_COMPRESSION: no file is compressed ([MS-FSCC] 2.3.19, 2.3.67)."""

from __future__ import annotations

from struct import Struct

from smbserver.dispatch import Call
from smbserver.ioctls.data_open import open_of
from smbserver.wire.ioctl import IoctlRequest
from smbserver.wire.status import NtStatus, StatusError

COMPRESSION_FORMAT_NONE = 0x0000

_FORMAT = Struct("<H")


def get_format(call: Call, request: IoctlRequest) -> bytes:
    """Always: not compressed."""
    open_of(call)
    return _FORMAT.pack(COMPRESSION_FORMAT_NONE)


def set_format(call: Call, request: IoctlRequest) -> bytes:
    """No compression is what there is; any other format is not supported."""
    open_of(call)
    if len(request.input) < _FORMAT.size:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if _FORMAT.unpack_from(request.input)[0] != COMPRESSION_FORMAT_NONE:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    return b""
