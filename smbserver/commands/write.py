"""WRITE ([MS-SMB2] 3.3.5.13): inline, or fetched from the client's memory by RDMA Read.

1. parse, check;
2. by RDMA: a range of the pool is filled from the client's buffers;
3. the data goes into the file, in the loop if it is little, else by a thread;
4. with write-through it is on disk before the reply.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from smbdirect.channel_end import ChannelClosed, TransferFailed
from smbdirect.frames import Status
from smbdirect.pool import PoolExhausted
from smbserver import locks
from smbserver.dispatch import Later, Reply
from smbserver.payload import LOOP_MAX, MAX_WRITTEN, check_channel, check_range
from smbserver.vfs.directory import Directory
from smbserver.vfs.errors import status_of
from smbserver.vfs.threads import in_thread
from smbserver.wire.status import NtStatus, StatusError
from smbserver.wire.write import WriteFlags, WriteRequest, WriteResponse

if TYPE_CHECKING:
    from smbdirect.pool import Pool, PoolRange
    from smbserver.dispatch import Call
    from smbserver.open import Data, Open

_WRITE_THROUGH = int(WriteFlags.WRITE_THROUGH)
_DATA_OFFSET_AND_LENGTH = slice(64 + 2, 64 + 8)


def serve(call: Call) -> Reply | Awaitable[Reply] | Later:
    """Answers with the number of bytes written, which is all of them."""
    request = WriteRequest.parse(call.message)
    opened = call.open
    assert opened is not None  # the opcode table asks for it
    handle = _check(call, opened, request)
    through = opened.write_through or bool(request.flags & _WRITE_THROUGH)
    if request.channel:
        return _serve_rdma(call, handle, request, through)
    data = memoryview(request.data)
    if len(data) > LOOP_MAX or through:
        return _write_inline(handle, data, request.offset, through)
    try:
        return _reply(handle.write(data, request.offset))
    except OSError as error:
        raise StatusError(status_of(error)) from error


def _check(call: Call, opened: Open, request: WriteRequest) -> Data:
    connection = call.connection
    length = request.remaining_bytes if request.channel else len(request.data)
    check_range(request.offset, length, connection.max_write_size)
    if length and request.offset + length > MAX_WRITTEN:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if request.channel:
        if any(call.message[_DATA_OFFSET_AND_LENGTH]):  # payload comes from one place only
            raise StatusError(NtStatus.INVALID_PARAMETER)
        check_channel(connection, request.channel, request.channel_info, length)
    handle = opened.handle
    if isinstance(handle, Directory):
        raise StatusError(NtStatus.INVALID_DEVICE_REQUEST)
    if not opened.may_write:
        raise StatusError(NtStatus.ACCESS_DENIED)
    if not locks.may_access(opened, request.offset, length, writing=True):
        raise StatusError(NtStatus.FILE_LOCK_CONFLICT)
    connection.service.caching.modified(opened)
    return handle


def _write(handle: Data, data: memoryview, offset: int, through: bool) -> int:
    written = handle.write(data, offset)
    if through:
        handle.sync_data()
    return written


async def _write_inline(handle: Data, data: memoryview, offset: int, through: bool) -> Reply:
    try:
        with handle:
            return _reply(await in_thread(_write, handle, data, offset, through))
    except OSError as error:
        raise StatusError(status_of(error)) from error


def _serve_rdma(
    call: Call, handle: Data, request: WriteRequest, through: bool
) -> Reply | Awaitable[Reply] | Later:
    pool, length = call.connection.pool, request.remaining_bytes
    if pool is None or length > pool.size:
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    if length == 0:
        return _reply(0)
    if length <= LOOP_MAX and not through:
        with contextlib.suppress(PoolExhausted):
            return _fetch_and_write(call, handle, request, pool.allocate(length))
    return _write_rdma(call, handle, request, through, pool)


def _fetch_and_write(call: Call, handle: Data, request: WriteRequest, piece: PoolRange) -> Later:
    """The usual way: no task, and the data is written in the wake-up that tells of its arrival."""
    later = Later()

    def fetched(status: int, moved: int) -> None:
        with piece:
            later.bring(_write_fetched(handle, piece, request.offset, status))

    call.connection.channel.fetch(piece, piece.length, request.channel_info, fetched)
    return later


def _write_fetched(handle: Data, piece: PoolRange, offset: int, status: int) -> Reply | Exception:
    if status != Status.DONE:
        return StatusError(NtStatus.CONNECTION_DISCONNECTED)
    try:
        return _reply(handle.write(piece.view, offset))
    except OSError as error:
        return StatusError(status_of(error))
    except Exception as error:  # the request's affair, not that of the channel that calls
        return error


async def _write_rdma(
    call: Call, handle: Data, request: WriteRequest, through: bool, pool: Pool
) -> Reply:
    length = request.remaining_bytes
    with handle, await pool.acquire(length) as piece:
        try:
            await call.connection.channel.rdma_read(piece, length, request.channel_info)
            return _reply(await in_thread(_write, handle, piece.view, request.offset, through))
        except OSError as error:
            raise StatusError(status_of(error)) from error
        except (TransferFailed, ChannelClosed) as error:
            raise StatusError(NtStatus.CONNECTION_DISCONNECTED) from error


def _reply(count: int) -> Reply:
    return Reply(WriteResponse(count).pack())
