from __future__ import annotations

from pathlib import Path

import pytest

from smbserver import client
from smbserver.client.connection import Request
from smbserver.commands.tree_connect import FULL_ACCESS, READ_ACCESS
from smbserver.wire.header import Command, Header
from smbserver.wire.negotiate import Dialect
from smbserver.wire.status import NtStatus, StatusError
from smbserver.wire.tree_connect import (
    ShareFlags,
    ShareType,
    TreeConnectRequest,
    TreeConnectResponse,
)
from smbserver.wire.tree_disconnect import TreeDisconnectRequest
from tests.smbserver.in_process import in_loop, serving


async def ask(session: client.Session, path: str) -> client.Response:
    header = Header(command=Command.TREE_CONNECT, session_id=session.id)
    channel = session.channels[0]
    request = Request(header, (TreeConnectRequest(path).pack(),))
    (sent,) = await channel.connection.send([request], channel.usual)
    return await sent.answer


async def status(session: client.Session, path: str) -> int:
    return (await ask(session, path)).status


@in_loop
async def test_share_and_ipc(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        disk = TreeConnectResponse.parse((await ask(session, r"\\any\SHARE")).expect().message)
        assert (disk.share_type, disk.maximal_access) == (ShareType.DISK, FULL_ACCESS)
        pipes = TreeConnectResponse.parse((await ask(session, r"\\any\ipc$")).expect().message)
        assert pipes.share_type == ShareType.PIPE


@pytest.mark.parametrize(
    "path", ["", r"\\server", r"share", r"\\server\share\more", r"\\server\no"]
)
@in_loop
async def test_names_of_no_share(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        assert await status(session, path) == NtStatus.BAD_NETWORK_NAME


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("available = no",), NtStatus.BAD_NETWORK_NAME),
        (("path = /does/not/exist",), NtStatus.BAD_NETWORK_NAME),
        (("valid users = bob",), NtStatus.ACCESS_DENIED),
        (("valid users = bob, ALICE",), NtStatus.SUCCESS),
        (("invalid users = alice",), NtStatus.ACCESS_DENIED),
    ],
)
@in_loop
async def test_who_may_enter(tmp_path: Path, lines: tuple[str, ...], expected: NtStatus) -> None:
    async with serving(tmp_path, share=lines) as running:
        assert await status(await running.session(), r"\\s\share") == expected


@pytest.mark.parametrize(
    ("lines", "access"),
    [
        ((), FULL_ACCESS),
        (("read only = yes",), READ_ACCESS),
        (("read only = yes", "write list = alice"), FULL_ACCESS),
        (("read list = alice",), READ_ACCESS),
        (("read list = alice", "write list = alice"), FULL_ACCESS),
    ],
)
@in_loop
async def test_who_may_write(tmp_path: Path, lines: tuple[str, ...], access: int) -> None:
    async with serving(tmp_path, share=lines) as running:
        message = (await ask(await running.session(), r"\\s\share")).expect().message
        assert TreeConnectResponse.parse(message).maximal_access == access


@in_loop
async def test_encrypted_share(tmp_path: Path) -> None:
    async with serving(tmp_path, share=("smb encrypt = required",)) as running:
        session = await running.session()
        response = (await ask(session, r"\\s\share")).expect()
        flags = TreeConnectResponse.parse(response.message).share_flags
        assert flags & ShareFlags.ENCRYPT_DATA
        header = Header(command=Command.TREE_DISCONNECT, session_id=session.id)
        header.tree_id = response.header.tree_id
        request = Request(header, (TreeDisconnectRequest().pack(),))
        channel = session.channels[0]
        (sent,) = await channel.connection.send([request], channel.signed)
        assert (await sent.answer).status == NtStatus.ACCESS_DENIED
        tree = await session.tree("share")
        await (await tree.create("file")).close()
        await tree.disconnect()
        old = await running.session(client.Options((Dialect.SMB_2_1,)))
        assert await status(old, r"\\s\share") == NtStatus.ACCESS_DENIED


@in_loop
async def test_disconnect_closes_opens(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        one, other = await session.tree("share"), await session.tree("share")
        file, stays = await one.create("one"), await other.create("other")
        await one.disconnect()
        with pytest.raises(StatusError) as error:
            await file.read(0, 1)
        assert error.value.status == NtStatus.NETWORK_NAME_DELETED
        await stays.write(0, b"data")


@in_loop
async def test_trees_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smbserver.commands.tree_connect.MAX_TREES", 2)
    async with serving(tmp_path) as running:
        session = await running.session()
        outcomes = [await status(session, r"\\s\share") for _ in range(3)]
        assert outcomes == [0, 0, NtStatus.INSUFFICIENT_RESOURCES]
