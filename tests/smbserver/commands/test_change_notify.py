"""CHANGE_NOTIFY against the real service."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from smbserver import access, client
from smbserver.wire.change_notify import (
    ChangeNotifyRequest,
    ChangeNotifyResponse,
    CompletionFilter,
    FileAction,
    FileNotifyInformation,
)
from smbserver.wire.create import CreateOptions
from smbserver.wire.header import Command
from smbserver.wire.status import StatusError
from tests.smbserver.in_process import in_loop, serving

NAMES = CompletionFilter.FILE_NAME | CompletionFilter.DIR_NAME


async def notify(opened: client.Open, room: int = 1000, flags: int = 0) -> list[tuple[int, str]]:
    """The changes that one request is told; StatusError for anything but success."""
    request = ChangeNotifyRequest(opened.file_id, NAMES, room, flags)
    body = request.pack()
    answer = await opened.tree.session.request(Command.CHANGE_NOTIFY, body, tree=opened.tree)
    buffer = ChangeNotifyResponse.parse(answer.message).output_buffer
    return [(one.action, one.file_name) for one in FileNotifyInformation.parse_all(buffer)]


@in_loop
async def test_told_between_and_during_requests(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, await server.session() as session:
        tree = await session.tree("share")
        folder = await tree.open_directory()
        first = asyncio.ensure_future(notify(folder, flags=1))
        await asyncio.sleep(0)
        await tree.make_directory("d")
        assert await first == [(FileAction.ADDED, "d")]
        await tree.make_directory("d\\e")
        await tree.delete("d\\e", directory=True)
        assert await notify(folder) == [(FileAction.ADDED, "d\\e"), (FileAction.REMOVED, "d\\e")]
        (tmp_path / "share" / "local").touch()
        assert await notify(folder) == [(FileAction.ADDED, "local")]


@in_loop
async def test_too_much_is_forgotten(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, await server.session() as session:
        tree = await session.tree("share")
        folder = await tree.open_directory()
        first = asyncio.ensure_future(notify(folder, room=20))
        await asyncio.sleep(0)
        await tree.make_directory("a long name")
        with pytest.raises(StatusError, match="NOTIFY_ENUM_DIR"):
            await first
        await tree.make_directory("b")
        assert await notify(folder) == [(FileAction.ADDED, "b")]


@pytest.mark.parametrize("end", ["close", "delete"])
@in_loop
async def test_the_end(tmp_path: Path, end: str) -> None:
    async with serving(tmp_path) as server, await server.session() as session:
        tree = await session.tree("share")
        await tree.make_directory("d")
        folder = await tree.open_directory("d")
        waiting = asyncio.ensure_future(notify(folder))
        await asyncio.sleep(0)
        if end == "close":
            await folder.close()
        else:
            await tree.delete("d", directory=True)
        expected = "NOTIFY_CLEANUP" if end == "close" else "DELETE_PENDING"
        with pytest.raises(StatusError, match=expected):
            await waiting


@in_loop
async def test_refusals(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, share=("change notify = no",)) as server,
        await server.session() as session,
    ):
        tree = await session.tree("share")
        with pytest.raises(StatusError, match="NOT_IMPLEMENTED"):
            await notify(await tree.open_directory())
        file = await tree.create("file")
        with pytest.raises(StatusError, match="INVALID_PARAMETER"):
            await notify(file)
        blind = await tree.create(
            "", access=access.READ_ATTRIBUTES, options=CreateOptions.DIRECTORY_FILE
        )
        with pytest.raises(StatusError, match="ACCESS_DENIED"):
            await notify(blind)
