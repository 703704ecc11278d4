"""Two clients with different ClientGUIDs, that is two worker processes, and what they see of each other."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

import pytest

from smbserver import client
from smbserver.client.multichannel import connect_tcp
from smbserver.own_server import OwnServer
from smbserver.wire.create import CreateDisposition, CreateOptions, ShareAccess
from smbserver.wire.lock import LockElement, LockFlags
from smbserver.wire.negotiate import Dialect
from smbserver.wire.negotiate_contexts import SigningAlgorithm
from smbserver.wire.status import NtStatus, StatusError
from tests.sessions import connect
from tests.smbserver.in_process import in_loop

READ, WRITE, DELETE = 0x00120089, 0x00120116, 0x00010000
ATTRIBUTES = 0x00000080
NOTHING = ShareAccess(0)
ALL = ShareAccess.READ | ShareAccess.WRITE | ShareAccess.DELETE


def lock(
    file: client.Open, offset: int, length: int, *, exclusive: bool = True, wait: bool = False
) -> Coroutine[Any, Any, None]:
    flags = LockFlags.EXCLUSIVE_LOCK if exclusive else LockFlags.SHARED_LOCK
    if not wait:
        flags |= LockFlags.FAIL_IMMEDIATELY
    return file.lock(LockElement(offset, length, flags))


def unlock(file: client.Open, offset: int, length: int) -> Coroutine[Any, Any, None]:
    return file.lock(LockElement(offset, length, LockFlags.UNLOCK))


async def refused(status: NtStatus, tree: client.Tree, name: str, **wanted: Any) -> None:
    with pytest.raises(StatusError) as caught:
        await tree.create(name, **wanted)
    assert caught.value.status == status


@in_loop
async def test_share_modes(server: OwnServer) -> None:
    async with await connect(server) as mine, await connect(server) as other:
        here, there = await mine.tree(server.share), await other.tree(server.share)
        held = await here.create("modes", access=READ, share=ShareAccess.READ)
        await refused(NtStatus.SHARING_VIOLATION, there, "modes", access=WRITE, share=ALL)
        await refused(NtStatus.SHARING_VIOLATION, there, "modes", access=READ, share=NOTHING)
        for looking in (READ, ATTRIBUTES):
            file = await there.create("modes", access=looking, share=ALL)
            await file.close()
        await held.close()
        file = await there.create("modes", access=WRITE, share=NOTHING)
        await refused(NtStatus.SHARING_VIOLATION, here, "modes", access=READ, share=ALL)
        await file.close()


@in_loop
async def test_the_last_to_close_deletes(server: OwnServer) -> None:
    async with await connect(server) as mine, await connect(server) as other:
        here, there = await mine.tree(server.share), await other.tree(server.share)
        held = await here.create("doomed", access=READ, share=ALL)
        deleting = await there.create(
            "doomed", access=READ | DELETE, share=ALL, options=CreateOptions.DELETE_ON_CLOSE
        )
        await deleting.close()
        assert (server.path / "doomed").exists()
        await refused(NtStatus.DELETE_PENDING, there, "doomed", access=READ, share=ALL)
        await refused(NtStatus.DELETE_PENDING, here, "doomed", access=READ, share=ALL)
        await held.close()
        assert not (server.path / "doomed").exists()


@in_loop
async def test_locks(server: OwnServer) -> None:
    async with await connect(server) as mine, await connect(server) as other:
        here = await (await mine.tree(server.share)).create("locks")
        there = await (await other.tree(server.share)).create("locks")
        await here.write(0, bytes(100))
        await lock(here, 0, 10)
        await lock(here, 20, 10, exclusive=False)
        for attempt in (
            lock(there, 9, 2),
            lock(there, 20, 1),
            there.write(5, b"x"),
            there.read(5, 1),
        ):
            with pytest.raises(StatusError) as caught:
                await attempt
            assert caught.value.status in (
                NtStatus.LOCK_NOT_GRANTED,
                NtStatus.FILE_LOCK_CONFLICT,
            )
        await lock(there, 20, 10, exclusive=False)
        assert await there.read(20, 10) == bytes(10)
        with pytest.raises(StatusError):
            await here.write(20, b"x")
        await unlock(there, 20, 10)
        await unlock(here, 0, 10)
        await there.write(5, b"x")
        await here.close()
        await lock(there, 0, 100)
        await there.close()


@in_loop
async def test_who_waits_for_a_range_gets_it_when_it_is_free(server: OwnServer) -> None:
    async with await connect(server) as mine, await connect(server) as other:
        here = await (await mine.tree(server.share)).create("waited for")
        there = await (await other.tree(server.share)).create("waited for")
        for give_back in (lambda: unlock(here, 0, 10), here.close):
            await lock(here, 0, 10)
            waiting = asyncio.create_task(lock(there, 0, 10, wait=True))
            await other.channels[0].connection.next_pending()
            assert not waiting.done()
            await give_back()
            await waiting
            await unlock(there, 0, 10)
        await there.close()


@in_loop
async def test_a_previous_session_of_another_worker_ends_first(server: OwnServer) -> None:
    mine = await connect(server)
    here = await (await mine.tree(server.share)).create("before", share=NOTHING)
    connection = await connect_tcp("127.0.0.1", server.port, client.Options())
    async with client.Session(connection, mine.credentials) as again:
        await again.set_up(connection, previous_session_id=mine.id)
        file = await (await again.tree(server.share)).create("before", share=NOTHING)
        with pytest.raises(StatusError) as caught:
            await here.read(0, 1)
        assert caught.value.status == NtStatus.USER_SESSION_DELETED
        await file.close()
    await mine.channels[0].connection.close()


@pytest.mark.parametrize(
    ("dialects", "status"),
    [
        ((Dialect.SMB_3_1_1,), NtStatus.USER_SESSION_DELETED),
        ((Dialect.SMB_3_0,), NtStatus.INVALID_PARAMETER),
        ((Dialect.SMB_2_1,), NtStatus.REQUEST_NOT_ACCEPTED),
    ],
)
@in_loop
async def test_a_binding_is_answered_by_the_owner_of_the_session(
    server: OwnServer, dialects: tuple[Dialect, ...], status: NtStatus
) -> None:
    algorithms = (SigningAlgorithm.AES_CMAC,)
    async with await connect(server, signing_algorithms=algorithms) as mine:
        options = client.Options(dialects=dialects, signing_algorithms=algorithms)
        connection = await connect_tcp("127.0.0.1", server.port, options)
        with pytest.raises(StatusError) as caught:
            await mine.bind(connection)
        assert caught.value.status == status
        counted = [worker["counters"] for worker in server.status()["workers"]]
        assert sum(one.get("connections_taken_over", 0) for one in counted) >= 1
        # The connection is none the worse for it, and neither is the session.
        again = client.Session(connection, mine.credentials)
        await again.set_up(connection)
        await again.tree(server.share)
        await again.close()
        await mine.tree(server.share)


@in_loop
async def test_a_killed_worker_holds_nothing(server: OwnServer) -> None:
    mine, other = await connect(server), await connect(server)
    here, there = await mine.tree(server.share), await other.tree(server.share)
    await here.create("orphan", access=READ | WRITE, share=NOTHING)
    locked = await here.create("locked by an orphan", share=ALL)
    await lock(locked, 0, 10)
    wanted = await there.create("locked by an orphan", share=ALL)
    waiting = asyncio.create_task(lock(wanted, 0, 10, wait=True))
    await other.channels[0].connection.next_pending()
    await refused(NtStatus.SHARING_VIOLATION, there, "orphan", access=READ, share=ALL)
    pids = {one["client_guid"]: one["pid"] for one in server.status()["sessions"]}
    os.kill(pids[mine.options.client_guid.hex()], signal.SIGKILL)
    await mine.channels[0].connection.channel.wait_closed()  # from here on, and not a moment later
    file = await there.create("orphan", access=READ, share=ALL, disposition=CreateDisposition.OPEN)
    await file.close()
    await waiting
    await other.close()
