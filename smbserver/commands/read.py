"""READ ([MS-SMB2] 3.3.5.12): inline, or placed in the client's memory by RDMA Write.

1. parse, check;
2. much data that is in memory and that nobody signs or seals is not read at all: the socket takes it from where it is;
   other data that is in memory is read at once, into a buffer of its own or into the pool;
3. what would wait for a disk is read by a thread;
4. the reply carries the data, or sends it ahead as an RDMA Write that it does not wait for.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING

from smbdirect.pool import PoolExhausted
from smbdirect.rdma_write import RdmaWrite
from smbserver import locks
from smbserver.dispatch import Reply
from smbserver.payload import (
    LOOP_MAX,
    MAPPED_MIN,
    REUSED_MIN,
    check_channel,
    check_range,
    keep_buffer,
    take_buffer,
)
from smbserver.vfs.directory import Directory
from smbserver.vfs.errors import status_of
from smbserver.vfs.threads import in_thread
from smbserver.wire.read import ReadRequest, ReadResponse
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbdirect.pool import Pool, PoolRange
    from smbserver.dispatch import Call
    from smbserver.open import Data, Open


def serve(call: Call) -> Reply | Awaitable[Reply]:
    """Answers with data, or with END_OF_FILE."""
    request = ReadRequest.parse(call.message)
    opened = call.open
    assert opened is not None  # the opcode table asks for it
    handle = _check(call, opened, request)
    opened.position = request.offset + request.length
    try:
        if request.channel:
            return _serve_rdma(call, handle, request)
        return _serve_inline(call, handle, request)
    except OSError as error:
        raise StatusError(status_of(error)) from error


def _check(call: Call, opened: Open, request: ReadRequest) -> Data:
    connection = call.connection
    check_range(request.offset, request.length, connection.max_read_size)
    if request.channel:
        check_channel(connection, request.channel, request.channel_info, request.length)
    handle = opened.handle
    if isinstance(handle, Directory):
        raise StatusError(NtStatus.INVALID_DEVICE_REQUEST)
    if not opened.may_read:
        raise StatusError(NtStatus.ACCESS_DENIED)
    if not locks.may_access(opened, request.offset, request.length, writing=False):
        raise StatusError(NtStatus.FILE_LOCK_CONFLICT)
    return handle


def _check_end(request: ReadRequest, got: int) -> None:
    if (got == 0 and request.length) or got < request.minimum_count:
        raise StatusError(NtStatus.END_OF_FILE)


# inline


def _serve_inline(call: Call, handle: Data, request: ReadRequest) -> Reply | Awaitable[Reply]:
    length = request.length
    if length >= MAPPED_MIN and not call.is_protected:
        mapped = handle.mapped(request.offset, length)
        if mapped is not None:
            return Reply(ReadResponse(mapped).pack_fixed(), payload=mapped)
    buffer = bytearray(length) if length < REUSED_MIN else take_buffer(length)
    view = memoryview(buffer)[:length]
    got = handle.read_now(view, request.offset) if length <= LOOP_MAX else -1
    if got < 0:
        return _read_inline(handle, request, buffer, view)
    return _reply_inline(request, buffer, view, got)


async def _read_inline(
    handle: Data, request: ReadRequest, buffer: bytearray, view: memoryview
) -> Reply:
    try:
        with handle:
            got = await in_thread(handle.read, view, request.offset)
    except OSError as error:
        raise StatusError(status_of(error)) from error
    return _reply_inline(request, buffer, view, got)


def _reply_inline(request: ReadRequest, buffer: bytearray, view: memoryview, got: int) -> Reply:
    _check_end(request, got)
    data = view if got == request.length else view[:got]
    sent = partial(keep_buffer, buffer) if request.length >= REUSED_MIN else None
    return Reply(ReadResponse(data).pack_fixed(), payload=data, sent=sent)


# by RDMA


def _serve_rdma(call: Call, handle: Data, request: ReadRequest) -> Reply | Awaitable[Reply]:
    pool = call.connection.pool
    if pool is None or request.length > pool.size:
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    if request.length == 0:
        _check_end(request, 0)
        return Reply(ReadResponse().pack_fixed())
    try:
        piece = pool.allocate(request.length)
    except PoolExhausted:
        return _wait_and_read_rdma(pool, handle, request)
    got = handle.read_now(piece.view, request.offset) if request.length <= LOOP_MAX else -1
    if got < 0:
        return _read_rdma(handle, request, piece)
    return _reply_rdma(request, piece, got)


async def _wait_and_read_rdma(pool: Pool, handle: Data, request: ReadRequest) -> Reply:
    return await _read_rdma(handle, request, await pool.acquire(request.length))


async def _read_rdma(handle: Data, request: ReadRequest, piece: PoolRange) -> Reply:
    try:
        with handle:
            got = await in_thread(handle.read, piece.view, request.offset)
    except OSError as error:
        piece.release()
        raise StatusError(status_of(error)) from error
    return _reply_rdma(request, piece, got)


def _reply_rdma(request: ReadRequest, piece: PoolRange, got: int) -> Reply:
    """Exactly 80 bytes with the header: clients count on no byte following ([MS-SMB2] 3.3.5.12)."""
    try:
        _check_end(request, got)
    except StatusError:
        piece.release()
        raise
    # The range is free again when the RDMA Write is done, or when no reply could leave: whatever comes last.
    write = RdmaWrite(piece, got, request.channel_info, lambda status, moved: piece.release())
    return Reply(ReadResponse(data_remaining=got).pack_fixed(), writes=(write,), sent=piece.release)
