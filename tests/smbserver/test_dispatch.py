from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest

from smbdirect.channel_end import ChannelClosed
from smbserver import client, dispatch
from smbserver.client.connection import InFlight, Request
from smbserver.opcodes import TABLE
from smbserver.wire.change_notify import ChangeNotifyRequest
from smbserver.wire.close import CloseRequest
from smbserver.wire.create import CreateRequest
from smbserver.wire.file_id import ALL_ONES, FileId
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.lock import LockElement, LockFlags, LockRequest
from smbserver.wire.query_info import QueryInfoRequest
from smbserver.wire.read import ReadRequest, ReadResponse
from smbserver.wire.status import NtStatus
from tests.smbserver.in_process import in_loop, serving

ALL_ACCESS = 0x001F01FF
OPEN, OPEN_IF = 1, 3
RELATED = HeaderFlags.RELATED_OPERATIONS
ECHO = b"\4\0\0\0"


def create(name: str, disposition: int = OPEN_IF) -> tuple[Command, bytes]:
    request = CreateRequest(name, ALL_ACCESS, create_disposition=disposition, share_access=7)
    return Command.CREATE, request.pack()


def close(file_id: FileId = ALL_ONES) -> tuple[Command, bytes]:
    return Command.CLOSE, CloseRequest(file_id).pack()


def query(file_id: FileId = ALL_ONES) -> tuple[Command, bytes]:
    return Command.QUERY_INFO, QueryInfoRequest(1, 5, file_id, 1024).pack()


def read(length: int, file_id: FileId = ALL_ONES) -> tuple[Command, bytes]:
    return Command.READ, ReadRequest(file_id, 0, length).pack()


async def send(
    session: client.Session,
    tree: client.Tree,
    *requests: tuple[Command, bytes],
    related: bool = True,
    charge: int = 1,
) -> list[InFlight]:
    """One message; its first request is never related."""
    made = []
    for position, (command, body) in enumerate(requests):
        flags = RELATED if related and position else 0
        header = Header(command=command, flags=flags, session_id=session.id, tree_id=tree.id)
        made.append(Request(header, (body,), charge))
    channel = session.channels[0]
    return await channel.connection.send(made, channel.usual)


async def statuses(sent: list[InFlight]) -> list[int]:
    return [(await one.answer).status for one in sent]


def test_table_has_a_row_for_every_command() -> None:
    assert set(TABLE) == set(Command)


@pytest.mark.parametrize("chosen", [{}, {"sign": True}, {"encrypt": True}])
@in_loop
async def test_related_chain(tmp_path: Path, chosen: dict[str, bool]) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(client.Options(**chosen))
        tree = await session.tree("share")
        sent = await send(session, tree, create("file"), query(), close())
        assert await statuses(sent) == [0, 0, 0]
        assert not next(iter(running.service.valid_sessions())).opens


@in_loop
async def test_related_requests_fail_as_the_create_did(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        sent = await send(session, tree, create("no", OPEN), query(), close())
        assert await statuses(sent) == [NtStatus.OBJECT_NAME_NOT_FOUND] * 3


@in_loop
async def test_a_failed_read_does_not_stop_the_close(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        sent = await send(session, tree, create("empty"), read(100), close())
        assert await statuses(sent) == [0, NtStatus.END_OF_FILE, 0]


@in_loop
async def test_unrelated_chain(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        sent = await send(session, tree, create("no", OPEN), create("yes"), related=False)
        assert await statuses(sent) == [NtStatus.OBJECT_NAME_NOT_FOUND, 0]


@in_loop
async def test_first_request_cannot_be_related(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        channel = session.channels[0]
        header = Header(command=Command.ECHO, flags=RELATED, session_id=session.id)
        (sent,) = await channel.connection.send([Request(header, (ECHO,))], channel.usual)
        assert (await sent.answer).status == NtStatus.INVALID_PARAMETER


@in_loop
async def test_preconditions(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        nothing = FileId(5, 5)
        assert await statuses(await send(session, tree, close(nothing))) == [NtStatus.FILE_CLOSED]
        assert await statuses(await send(session, tree, close())) == [NtStatus.FILE_CLOSED]
        tree.id += 1
        deleted = [NtStatus.NETWORK_NAME_DELETED]
        assert await statuses(await send(session, tree, create("file"))) == deleted
        session.id += 1
        gone = [NtStatus.USER_SESSION_DELETED]
        assert await statuses(await send(session, tree, create("file"))) == gone


@in_loop
async def test_unknown_command(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        sent = await send(session, tree, (99, ECHO))  # type: ignore[arg-type]
        assert await statuses(sent) == [NtStatus.INVALID_PARAMETER]


@in_loop
async def test_credit_charge_must_pay(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        for length, charge, status in (
            (65536, 1, NtStatus.END_OF_FILE),
            (65537, 1, NtStatus.INVALID_PARAMETER),
            (65537, 2, NtStatus.END_OF_FILE),
        ):
            async with await tree.create("file") as file:
                sent = await send(session, tree, read(length, file.file_id), charge=charge)
                assert await statuses(sent) == [status]


@in_loop
async def test_failure_of_ours_is_an_internal_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(call: dispatch.Call) -> dispatch.Reply:
        raise RuntimeError("a defect")

    async with serving(tmp_path) as running:
        session = await running.session()
        monkeypatch.setitem(TABLE, Command.ECHO, dispatch.Row(broken, False, False))
        tree = await session.tree("share")
        sent = await send(session, tree, (Command.ECHO, ECHO))
        assert await statuses(sent) == [NtStatus.INTERNAL_ERROR]


@in_loop
async def test_compound_not_allowed(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        setup = (Command.SESSION_SETUP, bytes(64))
        sent = await send(session, tree, (Command.ECHO, ECHO), setup, related=False)
        assert await statuses(sent) == [0, NtStatus.INVALID_PARAMETER]


# Requests that wait


async def pending(sent: InFlight) -> None:
    """Return when the interim response has come."""
    while sent.async_id is None:
        assert not sent.answer.done()
        await asyncio.sleep(0)


def notify(file_id: FileId = ALL_ONES) -> tuple[Command, bytes]:
    return Command.CHANGE_NOTIFY, ChangeNotifyRequest(file_id, 0xFFF).pack()


@pytest.mark.parametrize("chosen", [{}, {"sign": True}, {"encrypt": True}])
@in_loop
async def test_change_notify_waits_until_cancelled(tmp_path: Path, chosen: dict[str, bool]) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(client.Options(**chosen))
        tree = await session.tree("share")
        folder = await tree.open_directory("")
        (sent,) = await send(session, tree, notify(folder.file_id))
        await pending(sent)
        session.cancel(sent, session.channels[0])
        answer = await sent.answer
        assert answer.status == NtStatus.CANCELLED
        assert answer.header.is_async


@in_loop
async def test_change_notify_ends_with_its_open(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        folder = await tree.open_directory("")
        (sent,) = await send(session, tree, notify(folder.file_id))
        await pending(sent)
        await folder.close()
        assert (await sent.answer).status == NtStatus.NOTIFY_CLEANUP


@in_loop
async def test_the_last_of_a_chain_may_wait(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        opening = (
            Command.CREATE,
            CreateRequest(
                "", 0x00100081, create_disposition=OPEN, create_options=1, share_access=7
            ).pack(),
        )
        created, waits = await send(session, tree, opening, notify())
        assert (await created.answer).status == NtStatus.SUCCESS
        await pending(waits)
        session.cancel(waits, session.channels[0])
        assert (await waits.answer).status == NtStatus.CANCELLED


@in_loop
async def test_only_the_last_of_a_chain_may_wait(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        folder = await tree.open_directory("")
        sent = await send(session, tree, notify(folder.file_id), close(folder.file_id))
        assert await statuses(sent) == [NtStatus.INTERNAL_ERROR, NtStatus.SUCCESS]


@in_loop
async def test_a_reply_that_a_callback_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laters: list[tuple[dispatch.Call, dispatch.Later]] = []

    def serve(call: dispatch.Call) -> dispatch.Later:
        laters.append((call, dispatch.Later()))
        return laters[-1][1]

    async def count(wanted: int) -> None:
        while len(laters) < wanted:
            await asyncio.sleep(0)

    monkeypatch.setitem(TABLE, Command.READ, dataclasses.replace(TABLE[Command.READ], serve=serve))
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        sent = await send(session, tree, create("file"), read(10), read(10), close())
        await count(1)
        (ours,) = running.service.connections
        call, later = laters[0]
        assert call.open is not None
        assert call.open.handle.in_use
        assert ours._pending
        later.bring(dispatch.Reply(ReadResponse(b"data").pack()))
        await count(2)
        assert not any(one.answer.done() for one in sent)
        laters[1][1].bring(dispatch.StatusError(NtStatus.DISK_FULL))
        assert not call.open.handle.in_use
        assert await statuses(sent) == [0, 0, NtStatus.DISK_FULL, 0]
        assert not ours._pending

        file = await tree.create("file")
        (unanswered,) = await send(session, tree, read(10, file.file_id))
        await count(3)
        call, later = laters[2]
        assert call.open is not None
        fd = call.open.handle.fd
        ours.fail("the test wants it")
        with pytest.raises(ChannelClosed):
            await unanswered.answer
        os.fstat(fd)
        later.bring(dispatch.Reply(ReadResponse(b"data").pack()))
        with pytest.raises(OSError):
            os.fstat(fd)


@in_loop
async def test_waiting_requests_end_with_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        folder = await tree.open_directory("")
        (sent,) = await send(session, tree, notify(folder.file_id))
        await pending(sent)
        (ours,) = running.service.connections
        ours.fail("the test wants it")
        with pytest.raises(ChannelClosed):
            await sent.answer
        while ours._pending:
            await asyncio.sleep(0)
        assert not running.service.sessions


@in_loop
async def test_locks(tmp_path: Path) -> None:
    def lock(file: client.Open, *elements: LockElement) -> tuple[Command, bytes]:
        return Command.LOCK, LockRequest(file.file_id, elements).pack()

    exclusive = LockElement(0, 10, LockFlags.EXCLUSIVE_LOCK)
    at_once = LockElement(5, 10, LockFlags.EXCLUSIVE_LOCK | LockFlags.FAIL_IMMEDIATELY)
    elsewhere = LockElement(20, 1, LockFlags.SHARED_LOCK | LockFlags.FAIL_IMMEDIATELY)
    unlock = LockElement(0, 10, LockFlags.UNLOCK)
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        first, second = await tree.create("file"), await tree.create("file")

        async def outcome(file: client.Open, *elements: LockElement) -> int:
            (status,) = await statuses(await send(session, tree, lock(file, *elements)))
            return status

        assert await outcome(first, exclusive) == NtStatus.SUCCESS
        assert await outcome(second, at_once) == NtStatus.LOCK_NOT_GRANTED
        assert await outcome(second, elsewhere, at_once) == NtStatus.LOCK_NOT_GRANTED
        unlocked = LockElement(20, 1, LockFlags.UNLOCK)
        assert await outcome(second, unlocked) == NtStatus.RANGE_NOT_LOCKED
        assert await outcome(second, elsewhere) == NtStatus.SUCCESS
        assert await outcome(second) == NtStatus.INVALID_PARAMETER
        assert await outcome(second, LockElement(0, 1, 99)) == NtStatus.INVALID_PARAMETER
        (waits,) = await send(session, tree, lock(second, exclusive))
        await pending(waits)
        assert await outcome(first, unlock) == NtStatus.SUCCESS
        assert (await waits.answer).status == NtStatus.SUCCESS
        (waits,) = await send(session, tree, lock(first, exclusive))
        await pending(waits)
        await second.close()
        assert (await waits.answer).status == NtStatus.SUCCESS
        (waits,) = await send(session, tree, lock(await tree.create("file"), exclusive))
        await pending(waits)
        session.cancel(waits, session.channels[0])
        assert (await waits.answer).status == NtStatus.CANCELLED
