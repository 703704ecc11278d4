"""READ and WRITE, inline or by RDMA; the one place of the client that chooses between them.

The way of a READ by RDMA:
  1. the range is exposed, the proxy answers with descriptors;
  2. the request carries them, the server places the data and answers with 80 bytes;
  3. the range is revoked, and from then on it is ours again.
WRITE is the same, the server fetches. A request whose channel ends is sent again on another one,
with the next ChannelSequence ([MS-SMB2] 3.2.4.1.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from smbdirect.channel_end import ChannelClosed
from smbdirect.frames import Access
from smbdirect.pool import PoolRange
from smbserver.client.connection import InFlight, Response
from smbserver.client.credits import charge_for
from smbserver.client.exposure import Exposure, expose
from smbserver.wire.bounds import Buffer
from smbserver.wire.header import Command, Header
from smbserver.wire.read import ReadRequest, ReadResponse
from smbserver.wire.status import NtStatus
from smbserver.wire.write import WriteRequest, WriteResponse

if TYPE_CHECKING:
    from smbserver.client.open import Open
    from smbserver.client.session import SessionChannel

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


async def on_a_channel(
    attempt: Callable[Concatenate[Open, SessionChannel, _Arguments], Awaitable[_Result]],
    file: Open,
    *arguments: _Arguments.args,
    **named: _Arguments.kwargs,
) -> _Result:
    """Runs one of the functions below on the preferred channel, and again on the next if that one ends."""
    session = file.tree.session
    while True:
        channel = session.pick()
        try:
            return await attempt(file, channel, *arguments, **named)
        except ChannelClosed:
            session.forget(channel.connection)
            if not session.channels:
                raise
            session.counters.requests_repeated += 1


async def read(file: Open, channel: SessionChannel, offset: int, length: int) -> Buffer:
    """Reads to memory of any kind; empty at the end of the file."""
    session = file.tree.session
    if not session.uses_rdma(channel, file.tree, length):
        return await _read_inline(file, channel, offset, length)
    with await session.buffer(length) as piece:
        count = await read_into(file, channel, offset, piece, length)
        return bytes(piece.view[:count])


async def read_into(
    file: Open, channel: SessionChannel, offset: int, piece: PoolRange, length: int
) -> int:
    """Reads to the start of a range; the bytes read, 0 at the end of the file."""
    session = file.tree.session
    if not session.uses_rdma(channel, file.tree, length):
        return await _read_inline_into(file, channel, offset, piece, length)
    exposure = await expose(
        channel.connection,
        piece,
        length,
        Access.WRITE,
        session.options.descriptors_per_request,
    )
    request = ReadRequest(
        file.file_id,
        offset,
        length,
        channel=session.rdma_channel(channel),
        channel_info=exposure.pack(),
    )
    response = await _exposed(
        file, channel, Header(command=Command.READ), (request.pack(),), length, exposure
    )
    if response.expect(NtStatus.END_OF_FILE).status == NtStatus.END_OF_FILE:
        return 0
    answer = ReadResponse.parse(response.message)
    session.counters.requests_by_rdma += 1
    session.counters.read_by_rdma += answer.data_remaining
    return answer.data_remaining


async def _read_inline_into(
    file: Open, channel: SessionChannel, offset: int, piece: PoolRange, length: int
) -> int:
    """Reads through the response, or past it: much data is received where it belongs."""
    sent = await _send_inline(file, channel, offset, length, piece)
    response = await sent.answer
    if sent.placed:
        counters = file.tree.session.counters
        counters.requests_inline += 1
        counters.read_inline += sent.placed
        return sent.placed
    data = _inline_data(file, response)
    piece.view[: len(data)] = data
    return len(data)


async def _read_inline(file: Open, channel: SessionChannel, offset: int, length: int) -> Buffer:
    """Reads into the response; empty at the end of the file."""
    sent = await _send_inline(file, channel, offset, length, None)
    return _inline_data(file, await sent.answer)


async def _send_inline(
    file: Open, channel: SessionChannel, offset: int, length: int, into: PoolRange | None
) -> InFlight:
    request = ReadRequest(file.file_id, offset, length)
    return await file.tree.session.send(
        Header(command=Command.READ),
        request.pack(),
        tree=file.tree,
        channel=channel,
        charge=charge_for(length),
        into=into,
    )


def _inline_data(file: Open, response: Response) -> Buffer:
    counters = file.tree.session.counters
    end = response.expect(NtStatus.END_OF_FILE).status == NtStatus.END_OF_FILE
    data = b"" if end else ReadResponse.parse(response.message).data
    counters.requests_inline += 1
    counters.read_inline += len(data)
    return data


async def write(
    file: Open, channel: SessionChannel, offset: int, data: memoryview, flags: int
) -> int:
    """Writes from memory of any kind; the bytes written."""
    session = file.tree.session
    if not session.uses_rdma(channel, file.tree, len(data)):
        return await _write_inline(file, channel, offset, data, flags)
    with await session.buffer(len(data)) as piece:
        piece.view[:] = data
        return await write_from(file, channel, offset, piece, len(data), flags)


async def write_from(
    file: Open, channel: SessionChannel, offset: int, piece: PoolRange, length: int, flags: int
) -> int:
    """Writes from the start of a range; the bytes written."""
    session = file.tree.session
    if not session.uses_rdma(channel, file.tree, length):
        return await _write_inline(file, channel, offset, piece.view[:length], flags)
    exposure = await expose(
        channel.connection,
        piece,
        length,
        Access.READ,
        session.options.descriptors_per_request,
    )
    request = WriteRequest(
        file.file_id,
        offset,
        channel=session.rdma_channel(channel),
        remaining_bytes=length,
        channel_info=exposure.pack(),
        flags=flags,
    )
    response = await _exposed(
        file, channel, Header(command=Command.WRITE), (request.pack(),), length, exposure
    )
    count = WriteResponse.parse(response.expect().message).count
    session.counters.requests_by_rdma += 1
    session.counters.written_by_rdma += count
    return count


async def _write_inline(
    file: Open, channel: SessionChannel, offset: int, data: Buffer, flags: int
) -> int:
    """Writes what the request carries; the bytes written."""
    session = file.tree.session
    request = WriteRequest(file.file_id, offset, data, flags=flags)
    sent = await session.send(
        Header(command=Command.WRITE),
        request.pack_fixed(),
        data or b"\0",
        tree=file.tree,
        channel=channel,
        charge=charge_for(len(data)),
    )
    count = WriteResponse.parse((await sent.answer).expect().message).count
    session.counters.requests_inline += 1
    session.counters.written_inline += count
    return count


async def _exposed(
    file: Open,
    channel: SessionChannel,
    header: Header,
    parts: tuple[Buffer, ...],
    length: int,
    exposure: Exposure,
) -> Response:
    """Sends a request with descriptors; the range is revoked when its response has come."""
    try:
        sent = await file.tree.session.send(
            header, *parts, tree=file.tree, channel=channel, charge=charge_for(length)
        )
    except BaseException:
        await exposure.revoke()
        raise
    try:
        response = await sent.answer
    except asyncio.CancelledError:
        _revoke_later(sent, exposure)
        raise
    except BaseException:
        await exposure.revoke()
        raise
    await exposure.revoke()
    return response


_revoking: set[asyncio.Task[None]] = set()
"""Keeps the tasks alive that revoke what cancelled requests had exposed."""


def _revoke_later(sent: InFlight, exposure: Exposure) -> None:
    """Nobody waits for the response any more, but the server may still use the range until then."""

    def revoke() -> None:
        task = asyncio.ensure_future(exposure.revoke())
        _revoking.add(task)
        task.add_done_callback(_revoking.discard)

    if sent.answer.cancelled():
        sent.late = revoke
    else:
        revoke()
