"""A folder that moves between this server and Samba: attributes, creation times and streams go with it."""

from __future__ import annotations

import asyncio
import getpass
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from smbserver.client import Tree, connect
from smbserver.own_server import LOOPBACK, OwnServer
from smbserver.own_smbd import SmbdMissing, program, running_smbd
from smbserver.wire.create import CreateDisposition, FileAttributes
from smbserver.wire.file_information import (
    FileBasicInformation,
    FileInformationClass,
    FileStreamInformation,
)
from smbserver.wire.filetime import from_unix_ns

pytestmark = pytest.mark.interop

CREATED = from_unix_ns(1_234_567_890_000_000_000)
ATTRIBUTES = FileAttributes.HIDDEN | FileAttributes.SYSTEM | FileAttributes.ARCHIVE


@dataclass(frozen=True, slots=True)
class Account:
    """Where one of the two servers is reached."""

    port: int
    user: str
    password: str
    share: str


@pytest.fixture(scope="module")
def ours(server: OwnServer) -> Account:
    return Account(server.port, server.user, server.password, server.share)


@pytest.fixture(scope="module")
def theirs(server: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """smbd on the same folder."""
    try:
        program()
    except SmbdMissing as missing:
        pytest.skip(str(missing))
    try:
        os.setxattr(server.path, "user.probe", b"")
        os.removexattr(server.path, "user.probe")
    except OSError:
        pytest.skip("the file system of the test's folder holds no extended attributes")
    folder, password = tmp_path_factory.mktemp("smbd"), secrets.token_urlsafe(9)
    user = getpass.getuser()
    section = ("[both]", f"path = {server.path}", "read only = no")
    with running_smbd(folder, {user: password}, ("vfs objects = streams_xattr", *section)) as smbd:
        yield Account(smbd.port, user, password, "both")


def at(account: Account, work: Callable[[Tree], Awaitable[None]]) -> None:
    """Does something in a session with one of the servers."""

    async def session() -> None:
        connected = await connect(
            LOOPBACK, account.port, user=account.user, password=account.password
        )
        async with connected, await connected.tree(account.share) as tree:
            await work(tree)

    asyncio.run(session())


@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_what_one_writes_the_other_reads(
    ours: Account, theirs: Account, server: OwnServer, writer: str
) -> None:
    first, second = (ours, theirs) if writer == "ours" else (theirs, ours)

    async def write(tree: Tree) -> None:
        async with await tree.create(writer, disposition=CreateDisposition.CREATE) as file:
            await file.write(0, b"data")
        async with await tree.create(
            f"{writer}:Zone.Identifier", disposition=CreateDisposition.CREATE
        ) as stream:
            await stream.write(0, b"[ZoneTransfer]")
        async with await tree.create(writer) as file:
            basic = FileBasicInformation(CREATED, 0, 0, 0, ATTRIBUTES).pack()
            await file.set_info(FileInformationClass.FILE_BASIC, basic)

    async def read(tree: Tree) -> None:
        async with await tree.create(writer.upper()) as file:
            assert await file.read(0, 100) == b"data"
            raw = await file.query_info(FileInformationClass.FILE_BASIC)
            basic = FileBasicInformation.parse(raw)
            assert (basic.creation_time, basic.file_attributes) == (CREATED, ATTRIBUTES)
            raw = await file.query_info(FileInformationClass.FILE_STREAM)
            streams = FileStreamInformation.parse_all(raw)
            assert {(one.stream_name, one.stream_size) for one in streams} == {
                ("::$DATA", 4),
                (":Zone.Identifier:$DATA", 14),
            }
        async with await tree.create(f"{writer}:zone.identifier") as stream:
            assert await stream.read(0, 100) == b"[ZoneTransfer]"

    at(first, write)
    at(second, read)
    Path(server.path / writer).unlink()
