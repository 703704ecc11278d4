"""Opens that wait for their client, in the service of this process."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from smbserver import client, locks, share_modes
from smbserver.auth.passdb import Passdb
from smbserver.client.durable import DurableOpen
from smbserver.durable.record import Record
from smbserver.open import Open
from smbserver.wire.create import OplockLevel
from smbserver.wire.lock import LockElement, LockFlags
from smbserver.wire.status import NtStatus, StatusError
from tests.smbserver.in_process import InProcess, in_loop, serving

LINES = ("smb2 leases = yes",)
SHARE = ("oplocks = yes",)


async def cut(running: InProcess, session: client.Session) -> None:
    """The connection is lost, and the service has noticed."""
    for channel in list(session.channels):
        await channel.connection.close("cut by the test")
    while session.id in running.service.sessions:
        await asyncio.sleep(0)


def open_of(running: InProcess, file: DurableOpen) -> Open:
    (session,) = running.service.sessions.values()
    return session.opens[file.file_id.volatile]


async def renewed(running: InProcess, lost: client.Session) -> client.Tree:
    connection = await running.connection()
    return await (await client.renew(lost, connection)).tree("share")


async def gone(file: DurableOpen, tree: client.Tree) -> None:
    with pytest.raises(StatusError) as refused:
        await file.reconnect(tree)
    assert refused.value.status == NtStatus.OBJECT_NAME_NOT_FOUND


@in_loop
async def test_what_was_sent_before_is_written_before(tmp_path: Path) -> None:
    """A WRITE that a thread still works on must not come after what the client sends next."""
    async with serving(tmp_path, *LINES, share=SHARE) as running:
        tree = await (await running.session()).tree("share")
        file = await client.create_durable(tree, "file")
        exclusive = LockElement(0, 9, LockFlags.EXCLUSIVE_LOCK | LockFlags.FAIL_IMMEDIATELY)
        await file.lock(exclusive)
        handle = open_of(running, file).handle
        with handle:
            await cut(running, tree.session)
            tree = await renewed(running, tree.session)
            reconnecting = asyncio.create_task(file.reconnect(tree))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not reconnecting.done()
        file = await reconnecting
        await file.write(0, b"later")
        assert locks.held_by(open_of(running, file)) == (locks.Range(0, 9, exclusive=True),)
        await tree.session.close()


@in_loop
async def test_waiting_has_an_end(tmp_path: Path) -> None:
    async with serving(tmp_path, *LINES, share=SHARE) as running:
        waits: list[float] = []
        running.service.durable_opens.on_parked = waits.append
        tree = await (await running.session()).tree("share")
        file = await client.create_durable(tree, "file", milliseconds=9000)
        key = open_of(running, file).file.key
        await cut(running, tree.session)
        assert waits == [9.0]
        running.service.durable_opens.expire(time.time() + 8)
        assert share_modes.is_open(key)
        running.service.durable_opens.expire(time.time() + 9)
        assert not share_modes.is_open(key)
        tree = await renewed(running, tree.session)
        await gone(file, tree)
        await tree.session.close()


@in_loop
async def test_a_file_that_is_another_now_is_not_taken_up(tmp_path: Path) -> None:
    async with serving(tmp_path, *LINES, share=SHARE) as running:
        tree = await (await running.session()).tree("share")
        file = await client.create_durable(tree, "file")
        await cut(running, tree.session)
        path = tmp_path / "share" / "file"
        path.rename(tmp_path / "share" / "moved")
        path.write_bytes(b"another")
        tree = await renewed(running, tree.session)
        await gone(file, tree)
        await tree.session.close()


@in_loop
async def test_a_rename_is_followed(tmp_path: Path) -> None:
    async with serving(tmp_path, *LINES, share=SHARE) as running:
        tree = await (await running.session()).tree("share")
        file = await client.create_durable(tree, "file")
        opened = open_of(running, file)
        tree_vfs = opened.tree.vfs
        assert tree_vfs is not None
        tree_vfs.rename("file", "moved", replace=False)
        share_modes.renamed(opened.file, "moved")
        await cut(running, tree.session)
        tree = await renewed(running, tree.session)
        file = await file.reconnect(tree)
        await file.write(0, b"x")
        assert (tmp_path / "share" / "moved").read_bytes() == b"x"
        await tree.session.close()


@in_loop
async def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    async with serving(tmp_path, *LINES, share=SHARE) as running:
        tree = await (await running.session()).tree("share")
        await client.create_durable(tree, "file")
        await cut(running, tree.session)
        (record,) = running.service.durable_opens.parked.all()
        assert Record.from_json(record.to_json()) == record
        assert running.service.durable_opens.parked.of_file(record.file) == [record]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")
@in_loop
async def test_the_disk_is_the_servers_whoever_opens_first(tmp_path: Path) -> None:
    """A user who may not enter the server's folders."""
    share = (*SHARE, "continuous availability = yes")
    async with serving(tmp_path, *LINES, share=share) as running:
        (tmp_path / "share").chmod(0o777)
        Passdb(tmp_path / "smbpasswd").set_password("bob", "builder", 12345)
        tree = await (await running.session(user="bob", password="builder")).tree("share")
        file = await client.create_durable(tree, "file", persistent=True)
        assert open_of(running, file).durability is not None
        await file.close()


@in_loop
async def test_shares_may_have_none(tmp_path: Path) -> None:
    lines = (*SHARE, "durable handles = no")
    async with serving(tmp_path, *LINES, share=lines) as running:
        tree = await (await running.session()).tree("share")
        file = await client.create_durable(tree, "file", persistent=True)
        assert file.granted is None
        await cut(running, tree.session)
        tree = await renewed(running, tree.session)
        await gone(file, tree)
        await tree.session.close()


@in_loop
async def test_deletion_waits_with_the_open(tmp_path: Path) -> None:
    options = 0x1000  # DELETE_ON_CLOSE
    async with serving(tmp_path, *LINES, share=SHARE) as running:
        tree = await (await running.session()).tree("share")
        await client.create_durable(tree, "file", options=options, milliseconds=1000)
        await cut(running, tree.session)
        assert (tmp_path / "share" / "file").exists()
        running.service.durable_opens.expire(time.time() + 1)
        assert not (tmp_path / "share" / "file").exists()


@pytest.mark.parametrize("share", [0, 7])
@in_loop
async def test_who_leaves_while_another_opens_makes_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    """The client vanishes after the parked opens were looked at, and before the others of the file are."""
    async with serving(tmp_path, *LINES, share=SHARE) as running:
        lost, other = await running.session(), await running.session()
        file = await client.create_durable(await lost.tree("share"), "file", share=share)
        leaving = [running.service.sessions[lost.id]]
        is_locked = locks.is_locked

        def leave(key: share_modes.Key) -> bool:
            while leaving:
                running.service.durable_opens.park_all(leaving.pop())
            return is_locked(key)

        monkeypatch.setattr(locks, "is_locked", leave)
        tree = await other.tree("share")
        opened = await client.create_durable(tree, "file", share=share)
        assert not leaving
        assert opened.created.oplock_level == OplockLevel.BATCH
        await gone(file, tree)
        for session in (lost, other):
            await session.close()
