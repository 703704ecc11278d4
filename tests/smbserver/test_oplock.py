"""Oplocks and leases between clients of one worker: granted, broken, acknowledged, given up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from smbserver import client
from smbserver.client.open import Open
from smbserver.client.tree import Tree
from smbserver.lease import HANDLE, READ, WRITE
from smbserver.wire.create import OplockLevel
from smbserver.wire.create_contexts import REQUEST_LEASE, CreateContext, Lease, find_context
from smbserver.wire.header import Command
from smbserver.wire.oplock_break import (
    LeaseBreakAcknowledgment,
    LeaseBreakNotification,
    OplockBreak,
    parse_break,
)
from smbserver.wire.status import NtStatus, StatusError
from tests.smbserver.in_process import InProcess, in_loop, serving

ALL = READ | HANDLE | WRITE


async def tree(running: InProcess) -> Tree:
    return await (await running.session()).tree("share")


def connection(tree: Tree) -> client.Connection:
    return tree.session.pick().connection


async def told(tree: Tree) -> OplockBreak | LeaseBreakNotification | LeaseBreakAcknowledgment:
    return parse_break((await connection(tree).next_unsolicited()).message)


async def acknowledge(tree: Tree, opened: Open, level: int) -> None:
    body = OplockBreak(opened.file_id, level).pack()
    await tree.session.request(Command.OPLOCK_BREAK, body, tree=tree)


def wish(key: bytes, state: int) -> tuple[CreateContext, ...]:
    return (CreateContext(REQUEST_LEASE, Lease(key, state).pack()),)


def granted(opened: Open) -> Lease:
    context = find_context(opened.created.create_contexts, REQUEST_LEASE)
    assert context is not None
    return Lease.parse(context.data)


@in_loop
async def run_with_and_without(folder: Path, share: tuple[str, ...], level: int) -> None:
    async with serving(folder, share=share) as running:
        opened = await (await tree(running)).create("file", oplock=OplockLevel.BATCH)
        assert opened.created.oplock_level == level


@pytest.mark.parametrize(
    ("share", "level"), [((), OplockLevel.BATCH), (("oplocks = no",), OplockLevel.NONE)]
)
def test_they_are_granted_unless_the_share_says_no(
    tmp_path: Path, share: tuple[str, ...], level: int
) -> None:
    run_with_and_without(tmp_path, share, level)


@in_loop
async def run_a_break(folder: Path) -> None:
    async with serving(folder) as running:
        one, two = await tree(running), await tree(running)
        first = await one.create("file", oplock=OplockLevel.BATCH)
        assert first.created.oplock_level == OplockLevel.BATCH
        opening = asyncio.ensure_future(two.create("file", oplock=OplockLevel.BATCH))
        assert await told(one) == OplockBreak(first.file_id, OplockLevel.II)
        await connection(two).next_pending()
        assert not opening.done()
        await acknowledge(one, first, OplockLevel.II)
        second = await opening
        assert second.created.oplock_level == OplockLevel.II
        await second.write(0, b"new")
        assert await told(one) == OplockBreak(first.file_id, OplockLevel.NONE)


def test_a_second_open_waits_for_the_break_of_the_first(tmp_path: Path) -> None:
    run_a_break(tmp_path)


@in_loop
async def run_a_close(folder: Path) -> None:
    async with serving(folder) as running:
        one, two = await tree(running), await tree(running)
        first = await one.create("file", oplock=OplockLevel.BATCH, share=0)
        opening = asyncio.ensure_future(two.create("file"))
        await told(one)
        await first.close()
        await opening


def test_a_handle_that_is_only_kept_makes_room_when_asked(tmp_path: Path) -> None:
    run_a_close(tmp_path)


@in_loop
async def run_a_lost_client(folder: Path) -> None:
    async with serving(folder) as running:
        one, two = await tree(running), await tree(running)
        await one.create("file", oplock=OplockLevel.EXCLUSIVE)
        opening = asyncio.ensure_future(two.create("file", oplock=OplockLevel.EXCLUSIVE))
        await told(one)
        await connection(one).close()
        assert (await opening).created.oplock_level == OplockLevel.EXCLUSIVE


def test_a_client_that_goes_away_holds_nobody_up(tmp_path: Path) -> None:
    run_a_lost_client(tmp_path)


@in_loop
async def run_a_lease(folder: Path) -> None:
    key, other = b"k" * 16, b"o" * 16
    async with serving(folder) as running:
        one = await tree(running)
        await one.create("file", oplock=OplockLevel.LEASE, contexts=wish(key, ALL))
        again = await one.create("file", oplock=OplockLevel.LEASE, contexts=wish(key, ALL))
        assert granted(again) == Lease(key, ALL, epoch=1)
        opening = asyncio.ensure_future(
            one.create("file", oplock=OplockLevel.LEASE, contexts=wish(other, ALL))
        )
        notification = await told(one)
        assert notification == LeaseBreakNotification(key, ALL, READ | HANDLE, 1, 2)
        for state, status in ((ALL, NtStatus.REQUEST_NOT_ACCEPTED), (READ, NtStatus.SUCCESS)):
            body = LeaseBreakAcknowledgment(key, state).pack()
            if status == NtStatus.SUCCESS:
                await one.session.request(Command.OPLOCK_BREAK, body, tree=one)
                continue
            with pytest.raises(StatusError) as refused:
                await one.session.request(Command.OPLOCK_BREAK, body, tree=one)
            assert refused.value.status == status
        assert granted(await opening).lease_state == READ | HANDLE
        with pytest.raises(StatusError) as refused:
            await one.create("other", oplock=OplockLevel.LEASE, contexts=wish(key, READ))
        assert refused.value.status == NtStatus.INVALID_PARAMETER


def test_a_lease_is_one_for_all_opens_of_its_key(tmp_path: Path) -> None:
    run_a_lease(tmp_path)
