"""Durable and persistent handles: what a client keeps when its connection, its worker or the whole server is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smbdirect.channel_end import ChannelClosed
from smbserver import client, own_server
from smbserver.client.multichannel import connect_tcp
from smbserver.own_server import OwnServer
from smbserver.wire.create import CreateAction, CreateDisposition, OplockLevel
from smbserver.wire.create_contexts import (
    APP_INSTANCE_ID,
    AppInstanceId,
    CreateContext,
    DurableHandleFlags,
)
from smbserver.wire.lock import LockElement, LockFlags
from smbserver.wire.status import NtStatus, StatusError
from tests.conformance.accounts import accounts
from tests.sessions import connect
from tests.smbserver.in_process import in_loop

GUID, OTHER = b"D" * 16, b"E" * 16
BLOCK = 1000
PATIENCE = 20.0
"""Seconds until something must have happened."""


class Server:
    """A server that can be killed and started again in the same folder."""

    def __init__(self, made: OwnServer) -> None:
        self.made = made
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = self._stack.enter_context(own_server.running(self.made))

    def stop(self) -> None:
        self._stack.close()

    def worker_of(self, guid: bytes) -> int:
        """The pid of the process that serves a client."""
        sessions = self.made.status()["sessions"]
        return int(next(one["pid"] for one in sessions if one["client_guid"] == guid.hex()))

    def kill_worker(self, guid: bytes = GUID) -> None:
        os.kill(self.worker_of(guid), signal.SIGKILL)

    def kill(self) -> None:
        """All of its processes at once, then a new start."""
        status = self.made.status()
        assert self._process is not None
        workers = [worker["pid"] for worker in status["workers"]]
        for pid in (self._process.pid, status["proxy_pid"], *workers):
            with contextlib.suppress(ProcessLookupError):  # a spare ends with its listener
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self.stop()
        self.start()

    @contextlib.contextmanager
    def listener_held_up(self) -> Iterator[None]:
        """It does nothing meanwhile."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    async def connect(self, guid: bytes = GUID) -> client.Session:
        return await connect(self.made, client_guid=guid)

    async def tree(self, guid: bytes = GUID) -> client.Tree:
        return await (await self.connect(guid)).tree(self.made.share)

    async def again(self, lost: client.Session, guid: bytes = GUID) -> client.Tree:
        """The share, in a session that takes the place of a lost one."""
        options = client.Options(client_guid=guid)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    connection = await connect_tcp("127.0.0.1", self.made.port, options)
                    return await (await client.renew(lost, connection)).tree(self.made.share)
                except (OSError, ChannelClosed):  # the listener or the worker has just been killed
                    await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Its user is a real one, who may not touch the server's own files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "share").mkdir()
        (folder / "share").chmod(0o777)
        made = Server(
            OwnServer(
                folder=folder,
                path=folder / "share",
                port=own_server.free_port(),
                rdma_port=own_server.free_port(),
                user=accounts().user,
                options=("oplocks = yes", "smb2 leases = yes", "continuous availability = yes"),
            )
        )
        made.start()
        yield made
        made.stop()


async def cut(session: client.Session) -> None:
    """The connection is lost."""
    for channel in list(session.channels):
        await channel.connection.close("cut by the test")


async def refused(status: NtStatus, attempt: Any) -> None:
    with pytest.raises(StatusError) as caught:
        await attempt
    assert caught.value.status == status


@pytest.mark.parametrize("persistent", [False, True])
@in_loop
async def test_an_open_is_taken_up_again(server: Server, persistent: bool) -> None:
    tree = await server.tree()
    file = await client.create_durable(
        tree, "again", persistent=persistent, milliseconds=7000, share=0
    )
    assert file.granted is not None
    assert file.granted.timeout == 7000
    assert file.granted.flags == (DurableHandleFlags.PERSISTENT if persistent else 0)
    await file.write(0, b"before")
    await file.lock(LockElement(0, 3, LockFlags.EXCLUSIVE_LOCK | LockFlags.FAIL_IMMEDIATELY))
    await cut(tree.session)
    tree = await server.again(tree.session)
    file = await file.reconnect(tree)
    assert file.created.create_action == CreateAction.OPENED
    assert file.created.oplock_level == OplockLevel.BATCH
    await file.write(3, b"after")
    assert await file.read(0, 100) == b"befafter"
    await file.lock(LockElement(0, 3, LockFlags.UNLOCK))
    await file.close()
    await refused(NtStatus.OBJECT_NAME_NOT_FOUND, file.reconnect(tree))
    await tree.session.close()


@in_loop
async def test_another_user_or_guid_gets_nothing(server: Server) -> None:
    tree = await server.tree()
    file = await client.create_durable(tree, "mine")
    await cut(tree.session)
    other = await server.again(tree.session, OTHER)
    file.create_guid, right = b"x" * 16, file.create_guid
    await refused(NtStatus.OBJECT_NAME_NOT_FOUND, file.reconnect(other))
    file.create_guid = right
    # An oplock is not of a ClientGuid.
    await (await file.reconnect(other)).close()
    await other.session.close()


@in_loop
async def test_a_durable_open_makes_way(server: Server) -> None:
    tree = await server.tree()
    file = await client.create_durable(tree, "makes way", share=0)
    await cut(tree.session)
    other = await server.tree(OTHER)
    taken = await other.create("makes way", share=0)
    tree = await server.again(tree.session)
    await refused(NtStatus.OBJECT_NAME_NOT_FOUND, file.reconnect(tree))
    await taken.close()
    for one in (tree, other):
        await one.session.close()


@in_loop
async def test_a_persistent_open_does_not_make_way(server: Server) -> None:
    tree = await server.tree()
    file = await client.create_durable(tree, "stays", persistent=True, share=0)
    await cut(tree.session)
    other = await server.tree(OTHER)
    await refused(NtStatus.FILE_NOT_AVAILABLE, other.create("stays"))
    file = await file.reconnect(await server.again(tree.session))
    await file.close()
    await (await other.create("stays")).close()
    await other.session.close()
    await file.tree.session.close()


@in_loop
async def test_a_create_is_replayed(server: Server) -> None:
    tree = await server.tree()
    file = await client.create_durable(tree, "replayed")
    again = await client.create_durable(tree, "replayed", create_guid=file.create_guid, replay=True)
    assert again.file_id == file.file_id
    assert again.created.create_action == CreateAction.CREATED
    await refused(
        NtStatus.DUPLICATE_OBJECTID,
        client.create_durable(tree, "replayed", create_guid=file.create_guid),
    )
    await cut(tree.session)
    tree = await server.again(tree.session)
    again = await client.create_durable(tree, "replayed", create_guid=file.create_guid, replay=True)
    assert again.file_id.persistent == file.file_id.persistent
    assert again.created.create_action == CreateAction.CREATED
    await again.close()
    await tree.session.close()


@in_loop
async def test_its_time_is_up(server: Server) -> None:
    tree = await server.tree()
    file = await client.create_durable(tree, "short", milliseconds=50, persistent=True, share=0)
    await cut(tree.session)
    other = await server.tree(OTHER)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await (await other.create("short", share=0)).close()
                break
            except StatusError as error:
                assert error.status == NtStatus.FILE_NOT_AVAILABLE
    tree = await server.again(tree.session)
    await refused(NtStatus.OBJECT_NAME_NOT_FOUND, file.reconnect(tree))
    for one in (tree, other):
        await one.session.close()


@in_loop
async def test_a_persistent_open_deletes_on_close_after_a_restart(server: Server) -> None:
    tree = await server.tree()
    options = 0x1000  # DELETE_ON_CLOSE
    file = await client.create_durable(tree, "doomed", persistent=True, options=options)
    server.kill()
    assert (server.made.path / "doomed").exists()
    file = await file.reconnect(await server.again(tree.session))
    await file.close()
    assert not (server.made.path / "doomed").exists()
    await file.tree.session.close()


@in_loop
async def test_locks_and_share_modes_of_a_persistent_open_survive_the_server(
    server: Server,
) -> None:
    tree = await server.tree()
    file = await client.create_durable(
        tree, "locked", persistent=True, oplock=OplockLevel.NONE, share=7
    )
    assert file.granted is not None
    assert file.granted.flags == DurableHandleFlags.PERSISTENT
    exclusive = LockFlags.EXCLUSIVE_LOCK | LockFlags.FAIL_IMMEDIATELY
    await file.lock(LockElement(10, 5, exclusive))
    server.kill()
    other = await server.tree(OTHER)
    there = await other.create("locked", share=7)
    await refused(NtStatus.FILE_LOCK_CONFLICT, there.write(12, b"x"))
    await refused(NtStatus.LOCK_NOT_GRANTED, there.lock(LockElement(0, 11, exclusive)))
    await refused(NtStatus.FILE_NOT_AVAILABLE, other.create("locked", share=0))
    file = await file.reconnect(await server.again(tree.session))
    await file.write(12, b"mine")
    await file.close()
    await there.lock(LockElement(0, 11, exclusive))
    await there.close()
    for one in (file.tree, other):
        await one.session.close()


@pytest.mark.parametrize("persistent", [False, True])
@in_loop
async def test_a_server_that_is_stopped_leaves_opens_waiting(
    server: Server, persistent: bool
) -> None:
    tree = await server.tree()
    name = f"stopped {persistent}"
    file = await client.create_durable(tree, name, persistent=persistent, share=0)
    await file.write(0, b"before")
    server.stop()
    server.start()
    file = await file.reconnect(await server.again(tree.session))
    assert await file.read(0, 10) == b"before"
    await file.close()
    await file.tree.session.close()


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("is_away", [False, True])
@in_loop
async def test_a_program_moves_to_another_host(
    server: Server, persistent: bool, is_away: bool
) -> None:
    program = (CreateContext(APP_INSTANCE_ID, AppInstanceId(b"program".ljust(16)).pack()),)
    wanted: dict[str, Any] = {"persistent": persistent, "share": 0, "extra": program}
    tree, other = await server.tree(), await server.tree(OTHER)
    file = await client.create_durable(tree, "moves", **wanted)
    if is_away:
        await cut(tree.session)
    moved = await client.create_durable(other, "moves", **wanted)
    assert moved.granted is not None
    assert not other.session.channels[0].connection.unsolicited
    if is_away:
        tree = await server.again(tree.session)
        await refused(NtStatus.OBJECT_NAME_NOT_FOUND, file.reconnect(tree))
    else:
        assert not tree.session.channels[0].connection.unsolicited
        await refused(NtStatus.FILE_CLOSED, file.read(0, 1))
    await moved.close()
    for one in (tree, other):
        await one.session.close()


@in_loop
async def test_nobody_slips_in_before_a_dead_worker_is_buried(server: Server) -> None:
    """What a persistent open excludes others from counts also while the listener has not yet taken it over."""
    tree = await server.tree()
    file = await client.create_durable(
        tree, "guarded", persistent=True, oplock=OplockLevel.NONE, share=0
    )
    other = await server.tree(OTHER)
    pid = server.worker_of(GUID)
    with server.listener_held_up():
        os.kill(pid, signal.SIGKILL)
        await tree.session.channels[0].connection.channel.wait_closed()
        await refused(NtStatus.SHARING_VIOLATION, other.create("guarded"))
    file = await file.reconnect(await server.again(tree.session))
    await file.close()
    for one in (file.tree, other):
        await one.session.close()


class Writer:
    """A program that writes blocks one after another, and keeps a model of what it was promised."""

    def __init__(self, server: Server, name: str, persistent: bool) -> None:
        self._server = server
        self._name = name
        self._persistent = persistent
        self.model = bytearray()
        self.reconnected = self.reopened = 0

    async def run(self, blocks: int, disasters: dict[int, Callable[[], None]]) -> None:
        """A disaster happens while the block of its number is on its way."""
        tree = await self._server.tree()
        file = await client.create_durable(tree, self._name, persistent=self._persistent, share=0)
        for number in range(blocks):
            block = number.to_bytes(4, "big") * (BLOCK // 4)
            writing = asyncio.create_task(file.write(len(self.model), block))
            await asyncio.sleep(0)
            if number in disasters:
                disasters[number]()
            try:
                await writing
            except ChannelClosed:
                file = await self._recover(file)
                await file.write(len(self.model), block)
            self.model += block
        await file.close()
        await file.tree.session.close()

    async def _recover(self, file: client.DurableOpen) -> client.DurableOpen:
        tree = await self._server.again(file.tree.session)
        try:
            again = await file.reconnect(tree)
            self.reconnected += 1
        except StatusError as error:
            assert error.status == NtStatus.OBJECT_NAME_NOT_FOUND
            assert not self._persistent
            again = await client.create_durable(
                tree, self._name, share=0, disposition=CreateDisposition.OPEN
            )
            self.reopened += 1
        # Whatever was acknowledged is there.
        assert (await again.read(0, len(self.model))) == self.model
        return again


@pytest.mark.parametrize("persistent", [False, True])
@in_loop
async def test_nothing_acknowledged_is_lost(server: Server, persistent: bool) -> None:
    name = f"written {persistent}"
    writer = Writer(server, name, persistent)
    await writer.run(60, {10: server.kill_worker, 25: server.kill, 40: server.kill_worker})
    assert (server.made.path / name).read_bytes() == writer.model
    # A durable open dies with its worker; a persistent one with nothing.
    assert (writer.reconnected, writer.reopened) == ((3, 0) if persistent else (0, 3))
