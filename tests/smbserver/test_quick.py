"""READs and WRITEs served in C: the same answers as Python's, byte for byte, and what they must never touch."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import math
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver import client
from smbserver import quick as quick_path
from smbserver._smb2 import ffi, lib
from smbserver.client import Open, Options, Tree
from smbserver.client.options import DIALECTS
from smbserver.payload import MAX_WRITTEN
from smbserver.quick import INLINE_MAX, Quick
from smbserver.wire.create import OplockLevel
from smbserver.wire.file_id import FileId
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.lock import LockElement, LockFlags
from smbserver.wire.negotiate import Dialect
from smbserver.wire.negotiate_contexts import SigningAlgorithm
from smbserver.wire.oplock_break import OplockBreak, parse_break
from smbserver.wire.read import ReadRequest
from smbserver.wire.status import NtStatus, StatusError
from smbserver.wire.write import WriteRequest
from tests.effort import tries

from .in_process import InProcess, in_loop, serving

CONTENT = bytes(range(251)) * 1000
SIGNS = bool(ffi.gc(lib.smb2_signing_create(0, bytes(16), 16), lib.smb2_signing_destroy))
needs_libcrypto = pytest.mark.skipif(not SIGNS, reason="built without libcrypto (libssl-dev)")


@contextlib.asynccontextmanager
async def opened(
    running: InProcess, options: Options | None = None, name: str = "file"
) -> AsyncIterator[tuple[client.Session, Open, Quick]]:
    """A file opened on a connection of its own, and that connection's reader."""
    session = await running.session(options)
    (connection,) = (one for one in running.service.connections if session.id in one.bindings)
    async with await session.tree("share") as tree, await tree.create(name) as file:
        await file.read(
            0, 1
        )  # the first request goes by Python: it shows that the client knows the FileId
        yield session, file, connection.quick


def content(folder: Path) -> None:
    (folder / "share").mkdir()
    for name in ("file", "other"):
        (folder / "share" / name).write_bytes(CONTENT)


async def answer(file: Open, header: Header, request: Request, signed: bool) -> bytes:
    """The response, without what differs from session to session; the client looks at its signature."""
    session = file.tree.session
    channel = session.channels[0]
    made = dataclasses.replace(header, session_id=session.id, tree_id=file.tree.id)
    aimed = dataclasses.replace(request, file_id=file.file_id)
    charge = max(1, -(-length_of(request) // 65536))
    (sent,) = await channel.connection.send(
        [client.connection.Request(made, (aimed.pack(),), charge)],
        channel.signed if signed else client.connection.PLAIN,
    )
    response = bytearray((await sent.answer).message)
    response[40:64] = bytes(24)
    return bytes(response)


Request = ReadRequest | WriteRequest


def length_of(request: Request) -> int:
    return request.length if isinstance(request, ReadRequest) else len(request.data)


def headers(command: Command) -> st.SearchStrategy[Header]:
    return st.builds(
        Header,
        command=st.just(command),
        flags=st.sampled_from([0, 0, 0, 0, 0, 0, 8, 0x10, 0x70, 0x10000000, 0x20000000]),
        status=st.sampled_from([0, 0, 0, 0xFFFF]),  # 0xFFFF: of a channel before
        process_id=st.integers(0, 0xFFFFFFFF),
    )


offsets = st.one_of(
    st.integers(0, len(CONTENT) + 10),
    st.sampled_from([MAX_WRITTEN, 1 << 63, (1 << 64) - 1]),
)
reads = st.builds(
    ReadRequest,
    file_id=st.just(FileId(0, 0)),
    offset=offsets,
    length=st.one_of(st.integers(0, 5000), st.sampled_from([INLINE_MAX, INLINE_MAX + 1, 200_000])),
    minimum_count=st.sampled_from([0, 0, 0, 1, 4096, 100_000]),
    flags=st.integers(0, 3),
    padding=st.integers(0, 255),
)
writes = st.builds(
    WriteRequest,
    file_id=st.just(FileId(0, 0)),
    offset=offsets,
    data=st.builds(
        lambda size, byte: bytes([byte]) * size,
        st.one_of(st.integers(0, 5000), st.sampled_from([INLINE_MAX, INLINE_MAX + 1, 200_000])),
        st.integers(0, 255),
    ),
    channel=st.sampled_from([0, 0, 0, 0, 1]),
    flags=st.sampled_from([0, 0, 0, 1, 2, 4]),
)
requests = st.lists(
    st.one_of(
        st.tuples(headers(Command.READ), reads, st.booleans()),
        st.tuples(headers(Command.WRITE), writes, st.booleans()),
    ),
    min_size=4,
    max_size=12,
)


async def two_ways(
    folder: Path, stack: contextlib.AsyncExitStack, options: Options
) -> tuple[Quick, Open, Open]:
    """The same content opened in two sessions, whose second one C never serves."""
    running = await stack.enter_async_context(serving(folder))
    _, quickly, quick = await stack.enter_async_context(opened(running, options))
    _, slowly, never = await stack.enter_async_context(opened(running, options, "other"))
    never.serve = lambda *_: 0  # type: ignore[method-assign]
    return quick, quickly, slowly


def is_simple(header: Header, request: Request, signed: bool, size: int) -> bool:
    """Whether C must take it; `size` is the file's. What says that it is signed and is not is forged."""
    length = length_of(request)
    if signed and not SIGNS:
        return False
    allowed = HeaderFlags.PRIORITY_MASK | (HeaderFlags.SIGNED if signed else 0)
    if header.flags & ~allowed or header.status or not 0 < length <= INLINE_MAX:
        return False
    if isinstance(request, ReadRequest):
        return max(request.minimum_count, 1) <= min(length, size - request.offset)
    return not request.channel | request.flags & ~2 and request.offset + length <= MAX_WRITTEN


@pytest.mark.hypothesis
@pytest.mark.parametrize("algorithm", SigningAlgorithm)
def test_c_answers_as_python_does(tmp_path: Path, algorithm: SigningAlgorithm) -> None:
    content(tmp_path)
    options = Options(signing_algorithms=(algorithm,))
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        quick, quickly, slowly = runner.run(two_ways(tmp_path, stack, options))
        simple = 0

        @tries(100)
        @given(requests)
        def compare(wanted: list[tuple[Header, Request, bool]]) -> None:
            nonlocal simple
            for one in wanted:
                size = (tmp_path / "share" / "file").stat().st_size
                in_c = runner.run(answer(quickly, *one))
                assert in_c == runner.run(answer(slowly, *one))
                simple += is_simple(*one, size)

        compare()
        served = quick.statistics().messages_sent
        assert served == simple > 20
        same = [(tmp_path / "share" / name).read_bytes() for name in ("file", "other")]
        assert same[0] == same[1]
        runner.run(stack.aclose())


async def count_of(quick: Quick, file: Open, length: int = 4096) -> int:
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
async def test_an_expired_session_goes_by_python(tmp_path: Path) -> None:
    """On which it ends there while it was served here, and is served here again with a new proof."""
    content(tmp_path)
    async with serving(tmp_path) as running, opened(running) as (session, file, quick):
        assert await count_of(quick, file) == 1
        running.service.sessions[session.id].last_until(time.time())
        with pytest.raises(StatusError) as refused:
            await file.read(0, 1)
        assert refused.value.status == NtStatus.NETWORK_SESSION_EXPIRED
        running.service.sessions[session.id].last_until(math.inf)
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
        quick_path.withdraw(known)
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


async def written_by(quick: Quick, file: Open) -> int:
    """How many of one WRITE were served in C."""
    before = quick.statistics().messages_sent
    await file.write(0, b"new")
    return quick.statistics().messages_sent - before


@in_loop
async def test_who_caches_reads_is_told_of_writes(tmp_path: Path) -> None:
    content(tmp_path)
    async with (
        serving(tmp_path, share=("oplocks = yes",)) as running,
        opened(running) as (_, file, quick),
        opened(running, name="other") as (session, other, _),
    ):
        assert await written_by(quick, file) == 1
        async with await other.tree.create("file", oplock=OplockLevel.II) as cached:
            assert cached.created.oplock_level == OplockLevel.II
            assert await written_by(quick, file) == 0
            told = await session.channels[0].connection.next_unsolicited()
            broken = parse_break(told.message)
            assert isinstance(broken, OplockBreak)
            assert broken.oplock_level == OplockLevel.NONE
            assert await written_by(quick, file) == 1


@in_loop
async def test_who_caches_writes_need_tell_nobody(tmp_path: Path) -> None:
    content(tmp_path)
    async with (
        serving(tmp_path, share=("oplocks = yes",)) as running,
        opened(running, name="other") as (_, other, quick),
        await other.tree.create("file", oplock=OplockLevel.BATCH) as alone,
    ):
        await alone.read(0, 1)
        assert await written_by(quick, alone) == 1


@in_loop
async def test_a_sealed_session_goes_by_python(tmp_path: Path) -> None:
    content(tmp_path)
    options = Options(encrypt=True)
    async with serving(tmp_path) as running, opened(running, options) as (_, file, quick):
        assert await count_of(quick, file) == 0


@needs_libcrypto
@pytest.mark.parametrize("dialect", DIALECTS)
@in_loop
async def test_a_session_that_must_be_signed(tmp_path: Path, dialect: Dialect) -> None:
    content(tmp_path)
    options = Options(dialects=(dialect,), sign=True)
    async with serving(tmp_path) as running, opened(running, options) as (_, file, quick):
        assert await count_of(quick, file) == 1
        assert await written_by(quick, file) == 1


@needs_libcrypto
@in_loop
async def test_each_channel_of_a_session_has_its_key(tmp_path: Path) -> None:
    content(tmp_path)
    options = Options(sign=True)
    async with serving(tmp_path) as running, opened(running, options) as (session, file, quick):
        await session.bind(await running.connection(options))
        (other,) = (one.quick for one in running.service.connections if one.quick is not quick)
        before = [one.statistics().messages_sent for one in (quick, other)]
        await asyncio.gather(file.read(0, 4096), file.read(0, 4096))
        after = [one.statistics().messages_sent for one in (quick, other)]
        assert after == [count + 1 for count in before]


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
            assert server.channel.waiting_bytes < quick_path.WAITING_MAX + (18 << 20)
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
