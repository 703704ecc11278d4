"""READs answered in C: the same answers as Python's, byte for byte, and what they must never touch."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver import client, quick_reads
from smbserver.client import Open, Options, Tree
from smbserver.quick_reads import INLINE_MAX, QuickReads
from smbserver.wire.file_id import FileId
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.lock import LockElement, LockFlags
from smbserver.wire.read import ReadRequest
from smbserver.wire.status import NtStatus, StatusError
from tests.effort import tries

from .in_process import InProcess, in_loop, serving

CONTENT = bytes(range(251)) * 1000


@contextlib.asynccontextmanager
async def opened(
    running: InProcess, options: Options | None = None
) -> AsyncIterator[tuple[client.Session, Open, QuickReads]]:
    """A file opened on a connection of its own, and that connection's reader."""
    session = await running.session(options)
    (connection,) = (one for one in running.service.connections if session.id in one.bindings)
    async with await session.tree("share") as tree, await tree.create("file") as file:
        await file.read(
            0, 1
        )  # the first request goes by Python: it shows that the client knows the FileId
        yield session, file, connection.quick


def content(folder: Path) -> None:
    (folder / "share").mkdir()
    (folder / "share" / "file").write_bytes(CONTENT)


async def answers(file: Open, requests: list[tuple[Header, ReadRequest]]) -> list[bytes]:
    """The responses, without what differs from session to session."""
    session = file.tree.session
    connection = session.channels[0].connection
    found = []
    for header, request in requests:
        made = dataclasses.replace(header, session_id=session.id, tree_id=file.tree.id)
        aimed = dataclasses.replace(request, file_id=file.file_id)
        charge = max(1, -(-request.length // 65536))
        (sent,) = await connection.send([client.connection.Request(made, (aimed.pack(),), charge)])
        response = bytearray((await sent.answer).message)
        response[40:48] = bytes(8)
        found.append(bytes(response))
    return found


requests = st.lists(
    st.tuples(
        st.builds(
            Header,
            command=st.just(Command.READ),
            flags=st.sampled_from([0, 0, 0, 0x10, 0x70, 0x10000000, 0x20000000]),
            status=st.sampled_from([0, 0, 0, 0xFFFF]),  # 0xFFFF: of a channel before
            process_id=st.integers(0, 0xFFFFFFFF),
        ),
        st.builds(
            ReadRequest,
            file_id=st.just(FileId(0, 0)),
            offset=st.one_of(
                st.integers(0, len(CONTENT) + 10), st.sampled_from([1 << 63, (1 << 64) - 1])
            ),
            length=st.one_of(
                st.integers(0, 5000), st.sampled_from([INLINE_MAX, INLINE_MAX + 1, 200_000])
            ),
            minimum_count=st.sampled_from([0, 0, 0, 1, 4096, 100_000]),
            flags=st.integers(0, 3),
            padding=st.integers(0, 255),
        ),
    ),
    min_size=1,
    max_size=8,
)


async def two_ways(folder: Path, stack: contextlib.AsyncExitStack) -> tuple[QuickReads, Open, Open]:
    """One file opened in two sessions, whose second one C never serves."""
    running = await stack.enter_async_context(serving(folder))
    _, quickly, quick = await stack.enter_async_context(opened(running))
    _, slowly, never = await stack.enter_async_context(opened(running))
    never.serve = lambda *_: 0  # type: ignore[method-assign]
    return quick, quickly, slowly


def is_simple(header: Header, request: ReadRequest) -> bool:
    least = max(request.minimum_count, 1)
    return (
        not header.flags & ~HeaderFlags.PRIORITY_MASK
        and header.status == 0
        and 0 < request.length <= INLINE_MAX
        and least <= min(request.length, len(CONTENT) - request.offset)
    )


@pytest.mark.hypothesis
def test_c_answers_as_python_does(tmp_path: Path) -> None:
    content(tmp_path)
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        quick, quickly, slowly = runner.run(two_ways(tmp_path, stack))
        simple = 0

        @tries(100)
        @given(requests)
        def compare(wanted: list[tuple[Header, ReadRequest]]) -> None:
            nonlocal simple
            in_c = runner.run(answers(quickly, wanted))
            assert in_c == runner.run(answers(slowly, wanted))
            simple += sum(is_simple(*one) for one in wanted)

        compare()
        served = quick.statistics().messages_sent
        assert served == simple > 20
        runner.run(stack.aclose())


async def count_of(quick: QuickReads, file: Open, length: int = 4096) -> int:
    """How many of one READ were answered in C."""
    before = quick.statistics().messages_sent
    assert await file.read(0, length) == CONTENT[:length]
    return quick.statistics().messages_sent - before


@in_loop
async def test_a_new_sequence_is_noted_once(tmp_path: Path) -> None:
    """[MS-SMB2] 3.3.5.2.10: the first request with it goes by Python, which ends the old one for all."""
    content(tmp_path)
    async with serving(tmp_path) as running, opened(running) as (session, file, quick):
        session.channel_sequence = 1
        assert await count_of(quick, file) == 0
        assert await count_of(quick, file) == 1


@in_loop
async def test_the_position_is_one(tmp_path: Path) -> None:
    content(tmp_path)
    async with serving(tmp_path) as running, opened(running) as (session, file, quick):
        assert await count_of(quick, file) == 1
        (known,) = running.service.sessions[session.id].opens.values()
        assert known.position == 4096
        await file.read(10, INLINE_MAX + 10)
        assert known.position == INLINE_MAX + 20
        quick_reads.withdraw(known)
        assert known.position == INLINE_MAX + 20
        assert await count_of(quick, file) == 0


@in_loop
async def test_locked_bytes_go_by_python(tmp_path: Path) -> None:
    content(tmp_path)
    async with (
        serving(tmp_path) as running,
        opened(running) as (_, file, quick),
        opened(running) as (_, other, _),
    ):
        await other.lock(LockElement(0, 10, LockFlags.EXCLUSIVE_LOCK))
        with pytest.raises(StatusError) as refused:
            await file.read(0, 4096)
        assert refused.value.status == NtStatus.FILE_LOCK_CONFLICT
        await other.lock(LockElement(0, 10, LockFlags.UNLOCK))
        assert await count_of(quick, file) == 1


@pytest.mark.parametrize("options", [Options(sign=True), Options(encrypt=True)])
@in_loop
async def test_protected_sessions_go_by_python(tmp_path: Path, options: Options) -> None:
    content(tmp_path)
    async with serving(tmp_path) as running, opened(running, options) as (_, file, quick):
        assert await count_of(quick, file) == 0


@in_loop
async def test_an_encrypted_share_goes_by_python(tmp_path: Path) -> None:
    content(tmp_path)
    lines = ("server smb encrypt = desired",)
    async with serving(tmp_path, *lines) as running, opened(running) as (_, file, quick):
        assert await count_of(quick, file) == 0


@in_loop
async def test_what_is_closed_is_gone(tmp_path: Path) -> None:
    """Neither the end of an open nor of its tree or session leaves anything that C could still read."""
    content(tmp_path)
    async with serving(tmp_path) as running, opened(running) as (session, file, quick):
        tree = Tree(session, file.tree.id, file.tree.share, file.tree.connected)
        request = ReadRequest(file.file_id, 0, 4096).pack()
        await file.close()
        with pytest.raises(StatusError) as refused:
            await session.request(Command.READ, request, tree=tree)
        assert refused.value.status == NtStatus.FILE_CLOSED
        assert quick.statistics().messages_sent == 0


@in_loop
async def test_a_client_that_does_not_read_does_not_fill_memory(tmp_path: Path) -> None:
    content(tmp_path)
    async with serving(tmp_path) as running, opened(running) as (session, file, _):
        (server,) = running.service.connections
        channel = session.channels[0].connection.channel
        channel.pause_reading()
        asked = [asyncio.ensure_future(file.read(0, 60_000)) for _ in range(400)]
        for _ in range(200):
            await asyncio.sleep(0)
            assert server.channel.waiting_bytes < quick_reads.WAITING_MAX + (18 << 20)
        channel.resume_reading()
        assert {await one for one in asked} == {CONTENT[:60_000]}


@in_loop
async def test_no_descriptor_outlives_its_open(tmp_path: Path) -> None:
    """C knows a number only: it must be withdrawn before the number can mean another file."""
    content(tmp_path)
    async with serving(tmp_path) as running:
        for _ in range(50):
            async with opened(running) as (session, file, _):
                await file.read(0, 10)
                (known,) = running.service.sessions[session.id].opens.values()
                fd = known.handle.fd
            assert known.quick is None
            with pytest.raises(OSError, match="Bad file descriptor"):
                fcntl.fcntl(fd, fcntl.F_GETFD)
            os.close(os.open("/dev/null", os.O_RDONLY))
