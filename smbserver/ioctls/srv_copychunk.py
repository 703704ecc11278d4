"""FSCTL_SRV_COPYCHUNK and FSCTL_SRV_COPYCHUNK_WRITE: data moves from file to file here ([MS-SMB2] 3.3.5.15.6)."""

from __future__ import annotations

from smbserver import access, locks
from smbserver.dispatch import Call, Reply
from smbserver.ioctls.data_open import data_of, open_of
from smbserver.open import Data, Open
from smbserver.vfs.errors import status_of
from smbserver.vfs.threads import in_thread
from smbserver.wire.ioctl import CtlCode, IoctlRequest, IoctlResponse
from smbserver.wire.server_side_copy import (
    SrvCopychunk,
    SrvCopychunkCopy,
    SrvCopychunkResponse,
    file_id_of,
)
from smbserver.wire.status import NtStatus, StatusError

MAX_CHUNKS = 256
"""Chunks of one request; what Windows and Samba allow, as the next two."""
MAX_CHUNK_SIZE = 1 << 20
"""Bytes of one chunk."""
MAX_COPY_SIZE = 16 << 20
"""Bytes of all chunks of one request."""

_LIMITS = SrvCopychunkResponse(MAX_CHUNKS, MAX_CHUNK_SIZE, MAX_COPY_SIZE)


async def serve(call: Call, request: IoctlRequest) -> bytes | Reply:
    """Copies chunk by chunk and tells how far it came; a copy that asks for too much is answered with the limits."""
    if request.max_output_response < len(_LIMITS.pack()):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    copy = SrvCopychunkCopy.parse(request.input)
    target, source = open_of(call), _source(call, copy.source_key)
    if not _is_within_limits(copy):
        response = IoctlResponse(request.ctl_code, request.file_id, _LIMITS.pack())
        return Reply(response.pack(), NtStatus.INVALID_PARAMETER)
    read_from = data_of(source, access.READING)
    write_to = data_of(target, access.WRITING)
    if request.ctl_code == CtlCode.FSCTL_SRV_COPYCHUNK:
        data_of(target, access.READ_DATA)
    call.connection.service.caching.modified(target)
    done = SrvCopychunkResponse(0, 0, 0)
    for number, chunk in enumerate(copy.chunks, 1):
        try:
            _check_locks(source, target, chunk)
            with read_from, write_to:
                count = await in_thread(_copy, read_from, write_to, chunk)
        except (OSError, StatusError) as error:
            status = status_of(error) if isinstance(error, OSError) else NtStatus(error.status)
            response = IoctlResponse(request.ctl_code, request.file_id, done.pack())
            return Reply(response.pack(), status)
        done = SrvCopychunkResponse(number, 0, done.total_bytes_written + count)
    return done.pack()


def _source(call: Call, key: bytes) -> Open:
    """Also an open of another tree connect, of the same session only."""
    wanted = file_id_of(key)
    assert call.session is not None  # the opcode table asks for it
    found = call.session.opens.get(wanted.volatile)
    if found is None or found.persistent_id != wanted.persistent:
        raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)
    return found


def _is_within_limits(copy: SrvCopychunkCopy) -> bool:
    lengths = [chunk.length for chunk in copy.chunks]
    return (
        len(lengths) <= MAX_CHUNKS
        and all(0 < length <= MAX_CHUNK_SIZE for length in lengths)
        and sum(lengths) <= MAX_COPY_SIZE
    )


def _check_locks(source: Open, target: Open, chunk: SrvCopychunk) -> None:
    if not (
        locks.may_access(source, chunk.source_offset, chunk.length, writing=False)
        and locks.may_access(target, chunk.target_offset, chunk.length, writing=True)
    ):
        raise StatusError(NtStatus.FILE_LOCK_CONFLICT)


def _copy(source: Data, target: Data, chunk: SrvCopychunk) -> int:
    """All of a chunk is read before it is written: source and target may overlap."""
    buffer = memoryview(bytearray(chunk.length))
    if source.read(buffer, chunk.source_offset) < chunk.length:
        raise StatusError(NtStatus.INVALID_VIEW_SIZE)
    return target.write(buffer, chunk.target_offset)
