from __future__ import annotations

import asyncio
import errno
import os
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbdirect.file_window import FileWindow
from smbdirect.frames import Status
from smbdirect.pool import Pool
from smbserver import access
from smbserver.commands import flush, read, write
from smbserver.dispatch import Reply
from smbserver.vfs.file import File
from smbserver.wire.create import CreateDisposition
from smbserver.wire.errors import Malformed
from smbserver.wire.file_id import FileId
from smbserver.wire.flush import FlushRequest
from smbserver.wire.negotiate import Dialect
from smbserver.wire.rdma_channel import RdmaChannel
from smbserver.wire.read import ReadRequest, ReadResponse
from smbserver.wire.status import NtStatus, StatusError
from smbserver.wire.write import WriteRequest, WriteResponse
from tests.effort import tries

from .conftest import FakeChannel, Server, outcome_of

CONTENT = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(params=["page cache", "loop", "thread"], autouse=True)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ways of touching the file."""
    if request.param != "page cache":
        monkeypatch.setattr(read, "MAPPED_MIN", 1 << 30)
    if request.param == "thread":
        monkeypatch.setattr(read, "LOOP_MAX", 0)
        monkeypatch.setattr(write, "LOOP_MAX", 0)


@pytest.fixture
def file_id(server: Server) -> FileId:
    (server.path / "file").write_bytes(CONTENT)
    return server.open("file")


@pytest.fixture
def rdma(server: Server) -> Server:
    """The same server, reached by RDMA."""
    server.channel = server.connection.channel = FakeChannel("rdma")
    server.connection.pool = Pool(4 << 20)
    return server


def descriptors(*ranges: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<QII", offset, 7, length) for offset, length in ranges)


def response(reply: Reply) -> ReadResponse:
    return ReadResponse.parse(bytes(64) + reply.body + bytes(reply.payload))


@pytest.mark.parametrize("length", [0, 1, 4096, 65536, 262144, 1 << 20])
def test_data_inline(server: Server, file_id: FileId, length: int) -> None:
    for _ in range(2):  # the second time in a buffer used before
        reply = server.request(read, ReadRequest(file_id, 0, length))
        assert bytes(response(reply).data) == CONTENT[:length]
        if reply.sent is not None:
            reply.sent()


def test_a_read_moves_the_position(server: Server, file_id: FileId) -> None:
    server.request(read, ReadRequest(file_id, 5, 10))
    assert server.session.opens[file_id.volatile].position == 15


def test_the_end_of_the_file(server: Server, file_id: FileId) -> None:
    reply = server.request(read, ReadRequest(file_id, len(CONTENT) - 10, 4096))
    assert bytes(response(reply).data) == CONTENT[-10:]
    server.refuses(NtStatus.END_OF_FILE, read, ReadRequest(file_id, len(CONTENT), 1))
    short = ReadRequest(file_id, len(CONTENT) - 10, 4096, minimum_count=11)
    server.refuses(NtStatus.END_OF_FILE, read, short)


def test_only_what_nobody_signs_or_seals_is_sent_from_the_page_cache(
    server: Server, file_id: FileId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "MAPPED_MIN", 4096)
    opened = server.session.opens[file_id.volatile]

    def source(offset: int, length: int, **protection: Any) -> Any:
        call = server.call(ReadRequest(file_id, offset, length).pack(), opened)
        call.signer = protection.get("signer")
        call.chain.sealed = protection.get("sealed")
        reply: Any = asyncio.run(outcome_of(read, call))
        assert bytes(reply.payload) == CONTENT[offset : offset + length]
        return reply.payload.obj

    assert isinstance(source(1, 4096), FileWindow)
    assert not isinstance(source(1, 4095), FileWindow)
    assert not isinstance(source(1, 4096, signer=object()), FileWindow)
    assert not isinstance(source(1, 4096, sealed=object()), FileWindow)
    assert isinstance(source(len(CONTENT) - 4096, 4096), FileWindow)
    assert not isinstance(source(len(CONTENT) - 4096, 4097), FileWindow)


def test_reads_that_are_refused(server: Server, file_id: FileId) -> None:
    directory = server.open("")
    attributes_only = server.open("file", access.READ_ATTRIBUTES)
    too_long = ReadRequest(file_id, 0, server.connection.max_read_size + 1)
    server.refuses(NtStatus.INVALID_PARAMETER, read, too_long)
    server.refuses(NtStatus.INVALID_PARAMETER, read, ReadRequest(file_id, (1 << 63) - 1, 1))
    server.refuses(NtStatus.INVALID_PARAMETER, read, ReadRequest(file_id, (1 << 64) - 1, 1))
    server.refuses(NtStatus.INVALID_DEVICE_REQUEST, read, ReadRequest(directory, 0, 1))
    server.refuses(NtStatus.ACCESS_DENIED, read, ReadRequest(attributes_only, 0, 1))
    server.refuses(NtStatus.ACCESS_DENIED, write, WriteRequest(attributes_only, 0, b"x"))
    server.refuses(NtStatus.INVALID_DEVICE_REQUEST, write, WriteRequest(directory, 0, b"x"))


@pytest.mark.parametrize("length", [1, 4096, 65536, 1 << 20])
@pytest.mark.parametrize("through", [0, 1])
def test_writing_inline(server: Server, length: int, through: int) -> None:
    file_id = server.open("new", create_disposition=CreateDisposition.CREATE)
    request = WriteRequest(file_id, 3, CONTENT[:length], flags=through)
    reply = server.request(write, request)
    assert WriteResponse.parse(bytes(64) + reply.body).count == length
    assert (server.path / "new").read_bytes() == b"\0\0\0" + CONTENT[:length]
    server.request(flush, FlushRequest(file_id))


def test_flush_needs_a_right_to_write(server: Server, file_id: FileId) -> None:
    reader = server.open("file", access.READ_DATA)
    server.refuses(NtStatus.ACCESS_DENIED, flush, FlushRequest(reader))


def test_a_stream_is_read_and_written(server: Server) -> None:
    file_id = server.open("file:zone", create_disposition=CreateDisposition.CREATE)
    server.request(write, WriteRequest(file_id, 0, b"12345"))
    assert bytes(response(server.request(read, ReadRequest(file_id, 1, 100))).data) == b"2345"
    assert os.getxattr(server.path / "file", "user.DosStream.zone:$DATA") == b"12345\0"
    assert (server.path / "file").read_bytes() == b""


@pytest.mark.parametrize("length", [4096, 262144, 1 << 20])
def test_read_by_rdma_answers_with_80_bytes(rdma: Server, file_id: FileId, length: int) -> None:
    info = descriptors((0, length - 4), (1 << 20, 100))
    request = ReadRequest(file_id, 0, length, channel=RdmaChannel.RDMA_V1, channel_info=info)
    reply = rdma.request(read, request)
    answered = response(reply)
    assert 64 + len(reply.body) + len(reply.payload) == 80
    assert (answered.data, answered.data_remaining) == (b"", length)
    (rdma_write,) = reply.writes
    assert bytes(rdma_write.piece.view[: rdma_write.length]) == CONTENT[:length]
    assert bytes(rdma_write.descriptors) == info
    assert rdma.connection.pool.used > 0
    rdma_write.done(0, length)
    reply.sent()
    assert rdma.connection.pool.used == 0


def test_a_short_read_by_rdma(rdma: Server, file_id: FileId) -> None:
    info = descriptors((0, 4096))
    near = ReadRequest(file_id, len(CONTENT) - 10, 4096, channel=2, channel_info=info)
    reply = rdma.request(read, near)
    assert response(reply).data_remaining == reply.writes[0].length == 10
    reply.sent()
    beyond = ReadRequest(file_id, len(CONTENT), 4096, channel=2, channel_info=info)
    rdma.refuses(NtStatus.END_OF_FILE, read, beyond)
    assert rdma.connection.pool.used == 0


def test_reads_wait_for_room_in_the_pool(rdma: Server, file_id: FileId) -> None:
    info = descriptors((0, 1 << 20))

    async def many() -> None:
        pool = rdma.connection.pool
        held = [pool.allocate(1 << 20) for _ in range(4)]
        request = ReadRequest(file_id, 0, 1 << 20, channel=1, channel_info=info)
        call = rdma.call(request.pack(), rdma.session.opens[file_id.volatile])
        outcome: Any = asyncio.ensure_future(read.serve(call))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert not outcome.done()
        held.pop().release()
        assert response(await outcome).data_remaining == 1 << 20

    asyncio.run(many())


@pytest.mark.parametrize("length", [4096, 1 << 20])
@pytest.mark.parametrize("through", [0, 1])
def test_write_by_rdma_fetches_the_data(rdma: Server, length: int, through: int) -> None:
    file_id = rdma.open("new", create_disposition=CreateDisposition.CREATE)
    rdma.channel.memory[:length] = CONTENT[:length]
    info = descriptors((0, 100), (100, length))
    request = WriteRequest(
        file_id, 0, channel=2, remaining_bytes=length, channel_info=info, flags=through
    )
    reply = rdma.request(write, request)
    assert 64 + len(reply.body) == 80
    assert WriteResponse.parse(bytes(64) + reply.body).count == length
    assert (rdma.path / "new").read_bytes() == CONTENT[:length]
    assert rdma.connection.pool.used == 0


def test_a_write_whose_data_does_not_come_changes_nothing(rdma: Server, file_id: FileId) -> None:
    rdma.channel.status = Status.ENDED
    request = WriteRequest(
        file_id, 0, channel=1, remaining_bytes=4096, channel_info=descriptors((0, 4096))
    )
    rdma.refuses(NtStatus.CONNECTION_DISCONNECTED, write, request)
    assert (rdma.path / "file").read_bytes() == CONTENT
    assert rdma.connection.pool.used == 0


def test_data_is_fetched_for_the_file_that_was_meant(rdma: Server, file_id: FileId) -> None:
    (rdma.path / "other").write_bytes(bytes(10))
    request = WriteRequest(
        file_id, 0, channel=1, remaining_bytes=5, channel_info=descriptors((0, 5))
    )
    rdma.channel.memory[:5] = b"meant"

    async def close_meanwhile() -> None:
        opened = rdma.session.opens.pop(file_id.volatile)
        outcome = outcome_of(write, rdma.call(request.pack(), opened))
        fetching = asyncio.ensure_future(outcome)
        await asyncio.sleep(0)
        opened.close()
        with (rdma.path / "other").open("r+b"):  # it gets the descriptor's number
            await fetching

    asyncio.run(close_meanwhile())
    assert (rdma.path / "file").read_bytes()[:5] == b"meant"
    assert (rdma.path / "other").read_bytes() == bytes(10)


def test_what_goes_wrong_with_fetched_data_is_the_requests_affair(
    rdma: Server, file_id: FileId, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = WriteRequest(
        file_id, 0, channel=1, remaining_bytes=4096, channel_info=descriptors((0, 4096))
    )

    def fail(self: File, data: memoryview, offset: int) -> int:
        raise failure

    monkeypatch.setattr(File, "write", fail)
    failure: Exception = OSError(errno.ENOSPC, "full")
    rdma.refuses(NtStatus.DISK_FULL, write, request)
    failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        rdma.request(write, request)
    assert rdma.connection.pool.used == 0


def test_writes_wait_for_room_in_the_pool(rdma: Server, file_id: FileId) -> None:
    request = WriteRequest(
        file_id, 0, channel=1, remaining_bytes=1 << 20, channel_info=descriptors((0, 1 << 20))
    )

    async def many() -> None:
        held = [rdma.connection.pool.allocate(1 << 20) for _ in range(4)]
        call = rdma.call(request.pack(), rdma.session.opens[file_id.volatile])
        outcome = asyncio.ensure_future(outcome_of(write, call))
        await asyncio.sleep(0)
        assert not outcome.done()
        held.pop().release()
        reply = await outcome
        assert WriteResponse.parse(bytes(64) + reply.body).count == 1 << 20

    asyncio.run(many())
    assert (rdma.path / "file").read_bytes() == bytes(1 << 20)


@pytest.mark.parametrize(
    ("transport", "dialect", "channel", "info", "works"),
    [
        ("rdma", Dialect.SMB_3_0, 1, descriptors((0, 4096)), True),
        ("rdma", Dialect.SMB_3_0, 2, descriptors((0, 4096)), False),
        ("rdma", Dialect.SMB_3_0_2, 2, descriptors((0, 4096)), True),
        ("rdma", Dialect.SMB_2_1, 1, descriptors((0, 4096)), False),
        ("rdma", Dialect.SMB_3_1_1, 3, descriptors((0, 4096)), False),
        ("rdma", Dialect.SMB_3_1_1, 77, descriptors((0, 4096)), False),
        ("rdma", Dialect.SMB_3_1_1, 2, descriptors((0, 4095)), False),
        ("rdma", Dialect.SMB_3_1_1, 2, descriptors((0, 2048), (9, 2048)), True),
        ("rdma", Dialect.SMB_3_1_1, 2, b"", False),
        ("tcp", Dialect.SMB_3_1_1, 1, descriptors((0, 4096)), False),
    ],
)
def test_who_may_use_rdma(
    rdma: Server,
    file_id: FileId,
    transport: str,
    dialect: Dialect,
    channel: int,
    info: bytes,
    works: bool,
) -> None:
    rdma.channel.facts.transport, rdma.connection.dialect = transport, dialect
    reading = ReadRequest(file_id, 0, 4096, channel=channel, channel_info=info)
    writing = WriteRequest(file_id, 0, channel=channel, remaining_bytes=4096, channel_info=info)
    if works:
        reply = rdma.request(read, reading)
        assert reply.sent is not None
        reply.sent()
        rdma.request(write, writing)
    else:
        rdma.refuses(NtStatus.INVALID_PARAMETER, read, reading)
        rdma.refuses(NtStatus.INVALID_PARAMETER, write, writing)
    assert rdma.connection.pool.used == 0


def test_a_write_by_rdma_has_no_inline_payload(rdma: Server, file_id: FileId) -> None:
    request = WriteRequest(
        file_id, 0, b"x", channel=2, remaining_bytes=1, channel_info=descriptors((0, 1))
    )
    rdma.refuses(NtStatus.INVALID_PARAMETER, write, request)


def test_a_handle_closed_while_a_thread_reads_keeps_its_descriptor(
    server: Server, file_id: FileId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "LOOP_MAX", 0)
    monkeypatch.setattr(read, "MAPPED_MIN", 1 << 30)
    opened = server.session.opens[file_id.volatile]

    async def close_in_between() -> Reply:
        request = ReadRequest(file_id, 0, 1 << 20)
        outcome: Any = read.serve(server.call(request.pack(), opened))
        task = asyncio.ensure_future(outcome)
        await asyncio.sleep(0)  # as far as the thread
        opened.close()
        os.fstat(opened.handle.fd)
        return await task

    reply = asyncio.run(close_in_between())
    assert bytes(response(reply).data) == CONTENT
    with pytest.raises(OSError):
        os.fstat(opened.handle.fd)
    del server.session.opens[file_id.volatile]


@tries(200)
@given(
    command=st.sampled_from([read, write, flush]),
    body=st.binary(max_size=96),
    size=st.integers(0, 255),
)
def test_only_refusals_come_out(
    rdma: Server, file_id: FileId, command: Any, body: bytes, size: int
) -> None:
    message = (
        bytes([size, 0]) + body
        if size % 3
        else bytes([49 if command is not flush else 24, 0]) + body
    )
    call = rdma.call(message, rdma.session.opens[file_id.volatile])
    try:
        outcome = asyncio.run(outcome_of(command, call))
        if outcome.sent is not None:
            outcome.sent()
    except (StatusError, Malformed):
        pass
