"""The real processes: listener, workers, proxy."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smbserver import client, config, own_server
from smbserver.own_server import OwnServer
from smbserver.wire.negotiate import Dialect
from tests.sessions import connect
from tests.smbserver.in_process import in_loop

PATIENCE = 20.0
"""Seconds until something must have happened."""

RDMA_LIBRARIES = ("libibverbs", "librdmacm")


@pytest.fixture(autouse=True)
def nobody_is_connected(request: pytest.FixtureRequest) -> None:
    """What an earlier test left behind must not be counted."""
    if "server" in request.fixturenames:
        server: OwnServer = request.getfixturevalue("server")
        asyncio.run(until(lambda: server.status().get("sessions") == []))


async def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := await asyncio.to_thread(condition)):
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.05)
    return found


def workers(server: OwnServer) -> dict[int, int]:
    """Sessions of each worker, by pid."""
    return {one["pid"]: one["sessions_in_all"] for one in server.status().get("workers", [])}


def pids_of_sessions(server: OwnServer) -> list[int]:
    return [session["pid"] for session in server.status()["sessions"]]


@in_loop
async def test_one_worker_per_client(server: OwnServer) -> None:
    mine, other = b"A" * 16, b"B" * 16
    async with (
        await connect(server, client_guid=mine) as first,
        await connect(server, client_guid=mine),
        await connect(server, client_guid=other),
    ):
        await client.bind_tcp(first, "127.0.0.1", server.port)
        found = pids_of_sessions(server)
        assert len(found) == 3
        assert sorted(found.count(pid) for pid in set(found)) == [1, 2]
        channels = [len(session["channels"]) for session in server.status()["sessions"]]
        assert sorted(channels) == [1, 1, 2]


@in_loop
async def test_no_client_without_a_guid_meets_another(server: OwnServer) -> None:
    async with (
        await connect(server, client_guid=bytes(16)),
        await connect(server, client_guid=bytes(16)),
        await connect(server, dialects=(Dialect.SMB_2_0_2,)),
    ):
        assert len(set(pids_of_sessions(server))) == 3


@pytest.mark.parametrize("dialect", client.options.DIALECTS)
@in_loop
async def test_multi_protocol_negotiate(server: OwnServer, dialect: Dialect) -> None:
    older = tuple(one for one in client.options.DIALECTS if one <= dialect)
    async with await connect(server, multi_protocol=True, dialects=older) as session:
        assert session.dialect == dialect
        await session.tree(server.share)


@in_loop
async def test_a_worker_ends_after_its_last_connection(server: OwnServer) -> None:
    session = await connect(server)
    (pid,) = pids_of_sessions(server)
    await session.close()
    await until(lambda: pid not in workers(server))


@in_loop
async def test_a_killed_worker_costs_its_client_only(server: OwnServer) -> None:
    data = os.urandom(32 << 20)
    victim, other = await connect(server), await connect(server, client_guid=b"o" * 16)
    pids = {session["client_guid"]: session["pid"] for session in server.status()["sessions"]}
    tree = await other.tree(server.share)
    async with await tree.create("survivor") as file:
        writing = asyncio.create_task(file.write(0, data))
        os.kill(pids[victim.options.client_guid.hex()], signal.SIGKILL)
        await writing
        assert hashlib.sha256(await file.read(0, len(data))).digest() == (
            hashlib.sha256(data).digest()
        )
    await victim.channels[0].connection.channel.wait_closed() if victim.channels else None
    again = await connect(server, client_guid=victim.options.client_guid)
    assert pids_of_sessions(server).count(pids[b"o".hex() * 16]) == 1
    for session in (again, other):
        await session.close()


@in_loop
async def test_no_rdma_library_is_mapped(server: OwnServer) -> None:
    async with await connect(server, server.proxy_path) as session:
        tree = await session.tree(server.share)
        async with await tree.create("by rdma") as file:
            await file.write(0, bytes(1 << 20))
        told = server.status()
        for pid in (told["pid"], *(worker["pid"] for worker in told["workers"])):
            with contextlib.suppress(
                FileNotFoundError
            ):  # a worker of an earlier client that leaves
                maps = Path(f"/proc/{pid}/maps").read_text()
                assert not [name for name in RDMA_LIBRARIES if name in maps]
        guid = session.options.client_guid.hex()
        (shown,) = [one for one in told["sessions"] if one["client_guid"] == guid]
        moved = {one["transport"]: one["bytes_placed_by_rdma"] for one in shown["channels"]}
        assert moved == {"tcp": 0, "rdma": 1 << 20}


@in_loop
async def test_peers_that_say_nothing_useful(server: OwnServer) -> None:
    streams = []
    for first in (b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"\0\xff\xff\xff", b"\0\0\0\4abcd"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(first)
        streams.append((reader, writer, len(first)))
    for reader, writer, length in streams:
        if length >= 4:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
    async with await connect(server) as session:
        await session.tree(server.share)
    assert server.status()["refused"] >= 3


def test_control_socket_is_private(server: OwnServer) -> None:
    path = config.load(server.configuration).control_path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_servers_in_one_place(server: OwnServer) -> None:
    command = [sys.executable, "-m", "smbserver", "run", "-s", str(server.configuration)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "runs already" in done.stderr


def smbserver(server: OwnServer, *arguments: str, stdin: str = "") -> Any:
    command = [sys.executable, "-m", "smbserver", *arguments, "-s", str(server.configuration)]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@in_loop
async def test_passwd_takes_effect_at_once(server: OwnServer) -> None:
    def log_on(password: str) -> Any:
        return client.connect("127.0.0.1", server.port, user="zoë", password=password)

    assert smbserver(server, "passwd", "zoë", stdin="x\n").returncode == 1
    unknown = smbserver(server, "passwd", "-a", "zoë", stdin="one\n")
    assert unknown.returncode == (1 if os.geteuid() == 0 else 0), unknown.stderr
    as_us = ("passwd", "-a", "zoë", "--uid", str(os.getuid()))
    assert smbserver(server, *as_us, stdin="one\n").returncode == 0
    await (await log_on("one")).close()
    assert smbserver(server, "passwd", "zoë", stdin="two\n").returncode == 0
    await (await log_on("two")).close()
    for option, working in (("-d", False), ("-e", True), ("-x", False)):
        assert smbserver(server, "passwd", option, "zoë").returncode == 0
        with contextlib.nullcontext() if working else pytest.raises(Exception, match="SESSION"):
            await (await log_on("two")).close()


@in_loop
async def test_status(server: OwnServer) -> None:
    async with await connect(server):
        shown = smbserver(server, "status")
        assert shown.returncode == 0
        assert server.user in shown.stdout
        (session,) = json.loads(smbserver(server, "status", "-j").stdout)["sessions"]
        assert session["user"] == server.user


@in_loop
async def test_reload(server: OwnServer) -> None:
    async with await connect(server) as session:
        with server.configuration.open("a") as file:
            file.write(f"[more]\n    path = {server.path}\n")
        os.kill(server.status()["pid"], signal.SIGHUP)

        async def appeared() -> bool:
            with contextlib.suppress(client.connection.StatusError):
                await session.tree("more")
                return True
            return False

        deadline = time.monotonic() + PATIENCE
        while not await appeared():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def test_no_server() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "smbserver", "status", "--option", "pid directory=/nonexistent"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "smbserver run" in done.stderr


def test_sigterm_ends_everything(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    made = OwnServer(
        tmp_path / "server", tmp_path / "share", own_server.free_port(), own_server.free_port()
    )
    with own_server.running(made) as process:
        told = made.status()
        pids = [told["proxy_pid"], *(worker["pid"] for worker in told["workers"])]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert not [path for path in (made.folder / "run").iterdir() if path.is_socket()]
