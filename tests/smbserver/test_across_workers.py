"""Two clients with different ClientGUIDs, that is two worker processes, and what they see of each other."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from smbserver import client
from smbserver.instance import Instance
from smbserver.wire.create import CreateDisposition, CreateOptions, ShareAccess
from smbserver.wire.status import NtStatus, StatusError
from tests.smbserver.in_process import in_loop

READ, WRITE, DELETE = 0x00120089, 0x00120116, 0x00010000
ATTRIBUTES = 0x00000080
NOTHING = ShareAccess(0)
ALL = ShareAccess.READ | ShareAccess.WRITE | ShareAccess.DELETE


async def connect(server: Instance, guid: bytes) -> client.Session:
    return await client.connect(
        "127.0.0.1",
        server.port,
        user=server.user,
        password=server.password,
        options=client.Options(client_guid=guid * 16),
    )


async def refused(status: NtStatus, tree: client.Tree, name: str, **wanted: Any) -> None:
    with pytest.raises(StatusError) as caught:
        await tree.create(name, **wanted)
    assert caught.value.status == status


@in_loop
async def test_share_modes(server: Instance) -> None:
    async with await connect(server, b"A") as mine, await connect(server, b"B") as other:
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
async def test_the_last_to_close_deletes(server: Instance) -> None:
    async with await connect(server, b"A") as mine, await connect(server, b"B") as other:
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
async def test_a_killed_worker_holds_nothing(server: Instance) -> None:
    mine, other = await connect(server, b"A"), await connect(server, b"B")
    here, there = await mine.tree(server.share), await other.tree(server.share)
    await here.create("orphan", access=READ | WRITE, share=NOTHING)
    await refused(NtStatus.SHARING_VIOLATION, there, "orphan", access=READ, share=ALL)
    pids = {one["client_guid"]: one["pid"] for one in server.status()["sessions"]}
    os.kill(pids[(b"A" * 16).hex()], signal.SIGKILL)
    await mine.channels[0].connection.channel.wait_closed()
    file = await there.create("orphan", access=READ, share=ALL, disposition=CreateDisposition.OPEN)
    await file.close()
    await other.close()
