"""Leases of folders: whoever keeps a listing hears of what makes it wrong, and of nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from smbserver import client
from smbserver.client import Open, Tree
from smbserver.lease import HANDLE, READ, WRITE
from smbserver.own_server import OwnServer
from smbserver.wire import file_information as info
from smbserver.wire.create import CreateDisposition, CreateOptions, OplockLevel
from smbserver.wire.create_contexts import (
    REQUEST_LEASE,
    CreateContext,
    Lease,
    LeaseFlags,
    find_context,
)
from smbserver.wire.file_information import FileInformationClass as C
from smbserver.wire.header import Command
from smbserver.wire.negotiate import Dialect
from smbserver.wire.oplock_break import (
    LeaseBreakAcknowledgment,
    LeaseBreakNotification,
    parse_break,
)
from tests.sessions import connect
from tests.smbserver.in_process import in_loop, serving

KEY, CHILD = b"k" * 16, b"c" * 16
ALL = READ | HANDLE | WRITE
LISTING = 0x81


async def keep(tree: Tree, version: int = 2) -> Open:
    """The folder `d`, opened under the lease KEY."""
    context = CreateContext(REQUEST_LEASE, Lease(KEY, ALL, version=version).pack())
    return await tree.create(
        "d",
        access=LISTING,
        options=CreateOptions.DIRECTORY_FILE,
        oplock=OplockLevel.LEASE,
        contexts=(context,),
    )


def granted(opened: Open) -> int | None:
    context = find_context(opened.created.create_contexts, REQUEST_LEASE)
    return None if context is None else Lease.parse(context.data).lease_state


async def broken(tree: Tree) -> None:
    """The lease is taken away, and given back."""
    message = (await tree.session.pick().connection.next_unsolicited()).message
    told = parse_break(message)
    assert isinstance(told, LeaseBreakNotification)
    assert (told.lease_key, told.current_lease_state, told.new_lease_state) == (
        KEY,
        READ | HANDLE,
        0,
    )
    body = LeaseBreakAcknowledgment(KEY, 0).pack()
    await tree.session.request(Command.OPLOCK_BREAK, body, tree=tree)


async def make(tree: Tree) -> None:
    await (await tree.create("d\\new")).close()


async def remove(tree: Tree) -> None:
    await tree.delete("d\\file")


async def rename(tree: Tree, name: str) -> None:
    async with await tree.create("d\\file", access=0x00010080) as file:
        await file.set_info(C.FILE_RENAME, info.FileRenameInformation(name).pack())


async def set_attributes(tree: Tree) -> None:
    async with await tree.create("d\\file") as file:
        hidden = info.FileBasicInformation(0, 0, 0, 0, 2)
        await file.set_info(C.FILE_BASIC, hidden.pack())


async def write(tree: Tree) -> None:
    async with await tree.create("d\\file") as file:
        await file.write(0, b"longer than before")


@pytest.mark.parametrize(
    "change",
    [
        make,
        remove,
        set_attributes,
        write,
        lambda tree: rename(tree, "d\\other"),
        lambda tree: rename(tree, "outside"),
    ],
    ids=["make", "remove", "attributes", "write", "rename", "move"],
)
@in_loop
async def test_what_makes_a_listing_wrong(
    tmp_path: Path, change: Callable[[Tree], Awaitable[None]]
) -> None:
    async with serving(tmp_path) as running:
        one = await (await running.session()).tree("share")
        two = await (await running.session()).tree("share")
        await one.make_directory("d")
        await (await one.create("d\\file")).close()
        kept = await keep(one)
        assert granted(kept) == READ | HANDLE
        await (await two.create("d\\file")).close()  # looking changes nothing
        changing = asyncio.ensure_future(change(two))
        await broken(one)
        await changing


@in_loop
async def test_who_holds_the_lease_knows_what_he_does(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        one = await (await running.session()).tree("share")
        await one.make_directory("d")
        await keep(one)
        parent = Lease(CHILD, ALL, int(LeaseFlags.PARENT_LEASE_KEY_SET), parent_lease_key=KEY)
        context = CreateContext(REQUEST_LEASE, parent.pack())
        mine = await one.create("d\\mine", oplock=OplockLevel.LEASE, contexts=(context,))
        await mine.write(0, b"x")
        await mine.close()
        assert not one.session.pick().connection.unsolicited
        making = asyncio.ensure_future(make(one))
        await broken(one)
        await making


@pytest.mark.parametrize(
    ("dialect", "version", "state"),
    [
        (Dialect.SMB_2_1, 1, None),
        (Dialect.SMB_2_1, 2, None),
        (Dialect.SMB_3_0, 1, None),
        (Dialect.SMB_3_0, 2, READ | HANDLE),
    ],
)
@in_loop
async def test_only_new_clients_get_one(
    tmp_path: Path, dialect: Dialect, version: int, state: int | None
) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(client.Options((dialect,)))
        one = await session.tree("share")
        await one.make_directory("d")
        assert granted(await keep(one, version)) == state


@in_loop
async def test_a_handle_that_is_only_kept_lets_others_remove_the_folder(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        one = await (await running.session()).tree("share")
        two = await (await running.session()).tree("share")
        await one.make_directory("d")
        kept = await keep(one)
        opening = asyncio.ensure_future(
            two.create("d", share=0, options=CreateOptions.DIRECTORY_FILE)
        )
        message = (await one.session.pick().connection.next_unsolicited()).message
        told = parse_break(message)
        assert isinstance(told, LeaseBreakNotification)
        assert told.new_lease_state == READ
        await kept.close()
        await opening


@pytest.mark.parametrize("how", ["disposition", "close"])
@in_loop
async def test_a_handle_that_is_only_kept_does_not_keep_what_is_deleted(
    tmp_path: Path, how: str
) -> None:
    async with serving(tmp_path) as running:
        one = await (await running.session()).tree("share")
        two = await (await running.session()).tree("share")
        await one.make_directory("d")
        kept = await keep(one)
        options = CreateOptions.DIRECTORY_FILE
        if how == "close":
            options |= CreateOptions.DELETE_ON_CLOSE
        doomed = await two.create("d", access=0x00010080, options=options)
        if how == "disposition":
            pending = info.FileDispositionInformation(True)
            await doomed.set_info(C.FILE_DISPOSITION, pending.pack())
        await doomed.close()
        told = parse_break((await one.session.pick().connection.next_unsolicited()).message)
        assert isinstance(told, LeaseBreakNotification)
        assert told.new_lease_state == READ
        await kept.close()
        assert not (tmp_path / "share" / "d").exists()


@in_loop
async def test_across_workers(server: OwnServer) -> None:
    trees = []
    for guid in (b"f" * 16, b"g" * 16):
        session = await connect(server, client_guid=guid)
        trees.append(await session.tree(server.share))
    one, two = trees
    async with await one.create(
        "d", options=CreateOptions.DIRECTORY_FILE, disposition=CreateDisposition.OPEN_IF
    ):
        kept = await keep(one)
        assert granted(kept) == READ | HANDLE
        making = asyncio.ensure_future(make(two))
        await broken(one)
        await making
    for tree in trees:
        await tree.session.close()
