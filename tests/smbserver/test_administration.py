"""Status, control and reload of the real processes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from smbserver import config
from smbserver.control import Refused, ask
from smbserver.own_server import OwnServer
from smbserver.wire.status import NtStatus, StatusError
from tests.sessions import connect
from tests.smbserver.in_process import in_loop
from tests.smbserver.test_processes import until

SIZE = 32 << 20


def smbserver(server: OwnServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smbserver", *arguments, "-s", str(server.configuration)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


async def run(server: OwnServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(smbserver, server, *arguments)


async def told(server: OwnServer) -> list[dict[str, Any]]:
    sessions: list[dict[str, Any]] = json.loads((await run(server, "status", "-j")).stdout)[
        "sessions"
    ]
    return sessions


@in_loop
async def test_a_session_is_closed(server: OwnServer) -> None:
    session = await connect(server)
    async with await connect(server) as other:
        done = await run(server, "control", "close-session", f"0x{session.id:x}")
        assert (done.returncode, done.stderr) == (0, "")
        with pytest.raises(StatusError) as refused:
            await session.tree(server.share)
        assert refused.value.status == NtStatus.USER_SESSION_DELETED
        await other.tree(server.share)
        again = await run(server, "control", "close-session", str(session.id))
        assert again.returncode == 1
        assert f"no session 0x{session.id:x}" in again.stderr
    await session.channels[0].connection.close()


@in_loop
async def test_a_file_is_closed(server: OwnServer) -> None:
    async with await connect(server) as session:
        tree = await session.tree(server.share)
        file, other = await tree.create("one"), await tree.create("two")
        (described,) = await told(server)
        numbers = {one["path"]: one["file"] for one in described["open_files"]}
        shown = (await run(server, "status", "opens")).stdout
        assert numbers["one"] in shown
        closing = ("control", "close-file", described["session"], numbers["one"])
        assert (await run(server, *closing)).returncode == 0
        with pytest.raises(StatusError) as refused:
            await file.write(0, b"x")
        assert refused.value.status == NtStatus.FILE_CLOSED
        await other.write(0, b"x")
        again = await run(server, *closing)
        assert again.returncode == 1
        assert f"with a file {numbers['one']}" in again.stderr


@in_loop
async def test_thousands_of_open_files_are_told(server: OwnServer) -> None:
    async with await connect(server) as session:
        tree = await session.tree(server.share)
        for number in range(2000):
            await tree.create(f"{number:0100}")
        (described,) = await told(server)
        assert len(described["open_files"]) == described["opens"] == 2000


@in_loop
async def test_rdma_channels_show_credits(server: OwnServer) -> None:
    async with await connect(server, server.proxy_path):
        (described,) = await told(server)
        assert described["why_not_rdma"] == ""
        found = {one["transport"]: one["credits"] for one in described["channels"]}
        assert found["tcp"] is None
        assert found["rdma"]["send"] > 0
        table = (await run(server, "status", "--rates")).stdout
        assert "placement on" in table
        assert "READ/s" in table


@in_loop
async def test_debug_reaches_the_workers(server: OwnServer) -> None:
    async with await connect(server) as session:
        assert (await run(server, "control", "debug", "debug")).returncode == 0
        tree = await session.tree("IPC$")
        with pytest.raises(StatusError):
            await tree.create("nobody serves this pipe")
        await until(lambda: "nobody serves this pipe" in server.log.read_text())
        assert (await run(server, "control", "reload")).returncode == 0
        with pytest.raises(StatusError):
            await tree.create("nor this one")
        assert "nor this one" not in server.log.read_text()


@pytest.mark.parametrize("encrypt", [False, True])
@in_loop
async def test_transfers_outlive_reloads(server: OwnServer, encrypt: bool) -> None:
    data = os.urandom(SIZE)
    reloads = 0
    async with await connect(server, encrypt=encrypt) as session:
        tree = await session.tree(server.share)
        async with await tree.create(f"transfer {encrypt}") as file:

            async def transfer() -> bytes:
                await file.write(0, data)
                return await file.read(0, SIZE)

            transferring = asyncio.create_task(transfer())
            pid = server.status()["pid"]
            while not transferring.done():
                os.kill(pid, signal.SIGHUP)
                reloads += 1
                await asyncio.sleep(0.02)
            back = await transferring
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
        assert reloads > 1
        assert len(await told(server)) == 1
        assert session.id == int((await told(server))[0]["session"], 16)


@in_loop
async def test_a_wrong_configuration_changes_nothing(server: OwnServer) -> None:
    good = server.configuration.read_text()
    async with await connect(server) as session:
        try:
            server.configuration.write_text(good + "    create mask = many\n")
            done = await run(server, "control", "reload")
            assert done.returncode == 1
            assert "create mask = many" in done.stderr
            await session.tree(server.share)
            server.configuration.write_text(good + "    craete mask = 0600\n")
            done = await run(server, "control", "reload")
            assert done.returncode == 0
            assert "did you mean `create mask`?" in done.stderr
        finally:
            server.configuration.write_text(good)


@in_loop
async def test_a_reload_counts_for_new_tree_connects(server: OwnServer) -> None:
    good = server.configuration.read_text()
    async with await connect(server) as session:
        before = await session.tree(server.share)
        try:
            server.configuration.write_text(good.replace("read only = no", "read only = yes"))
            assert (await run(server, "control", "reload")).returncode == 0
            async with await before.create("still written") as file:
                await file.write(0, b"x")
            after = await session.tree(server.share)
            with pytest.raises(StatusError) as refused:
                await after.create("not written")
            assert refused.value.status == NtStatus.ACCESS_DENIED
        finally:
            server.configuration.write_text(good)
            assert (await run(server, "control", "reload")).returncode == 0


def test_wrong_usage(server: OwnServer) -> None:
    for arguments in (("control",), ("control", "close-session", "x"), ("status", "nothing")):
        assert smbserver(server, *arguments).returncode == 2


def test_requests_that_make_no_sense(server: OwnServer) -> None:
    path = config.load(server.configuration).control_path
    for op, arguments in (("nothing", {}), ("close-session", {}), ("close-file", {"session": "x"})):
        with pytest.raises(Refused):
            ask(path, op, **arguments)
