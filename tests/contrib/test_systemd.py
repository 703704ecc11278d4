"""The units: systemd understands them, and what they count on is there: notification, reload, passed sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smbdirect.control import Proxy
from smbserver import client, own_server
from smbserver.own_server import OwnServer
from tests.smbserver.in_process import in_loop

UNITS = Path(__file__).resolve().parents[2] / "contrib" / "systemd"
BIN = Path(sys.executable).parent

ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""What a service manager does between fork and exec; the first argument is the socket."""


@pytest.mark.interop
def test_systemd_understands_the_units(program: Callable[[str], str], tmp_path: Path) -> None:
    """As they would stand on a host, with the programs where they are here."""
    analyze = program("systemd-analyze")
    paths = []
    for unit in sorted(UNITS.iterdir()):
        text = unit.read_text().replace("/usr/local/bin/", f"{BIN}/")
        (tmp_path / unit.name).write_text(text)
        paths.append(str(tmp_path / unit.name))
    assert len(paths) == 4
    checked = subprocess.run(
        [analyze, "verify", "--man=no", *paths], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    complaints = [line for line in checked.stderr.splitlines() if str(tmp_path) in line]
    assert not complaints


def test_the_units_name_pages_and_commands_that_are_there() -> None:
    for unit in UNITS.iterdir():
        text = unit.read_text()
        assert set(re.findall(r"man:([\w.]+\(\d\))", text)) <= {
            "smbserver(8)",
            "smbserver.conf(5)",
            "rdmaproxy(8)",
            "rdmaproxy.conf(5)",
        }
        for command in re.findall(r"^ExecStart=/usr/local/bin/(\w+) run", text, re.MULTILINE):
            assert (BIN / command).exists()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where a service manager would hear what the daemon tells."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def told(manager: socket.socket, wanted: str) -> str:
    """The first message in which that stands."""
    while True:
        message = manager.recv(4096).decode()
        if wanted in message:
            return message


@pytest.fixture
def made(tmp_path: Path) -> OwnServer:
    """With an RDMA port only of its own: TCP comes with the socket."""
    (tmp_path / "share").mkdir()
    made = OwnServer(tmp_path / "server", tmp_path / "share", 1, own_server.free_port())
    made.prepare()
    return made


@contextlib.contextmanager
def activated(passed: socket.socket, log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    fd = passed.fileno()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(fd), *command],
            pass_fds=(fd,),
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        own_server.stop(process)


@in_loop
async def test_smbserver_takes_the_socket_and_tells_how_it_is(
    made: OwnServer, manager: socket.socket, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        command = ("-m", "smbserver", "run", "-s", str(made.configuration))
        with activated(listening, tmp_path / "log", *command) as process:
            await asyncio.to_thread(told, manager, "READY=1")
            async with await client.connect(
                "127.0.0.1", port, user=made.user, password=made.password
            ) as session:
                await session.tree(made.share)
                await asyncio.to_thread(told, manager, "STATUS=1 clients")
                process.send_signal(1)
                await asyncio.to_thread(told, manager, "RELOADING=1")
                await asyncio.to_thread(told, manager, "READY=1")
                await session.tree(made.share)
            assert made.status()["listening"] == [f"127.0.0.1 port {port}"]
            for worker in made.status()["workers"]:
                environment = Path(f"/proc/{worker['pid']}/environ").read_bytes()
                assert b"LISTEN_FDS" not in environment
            process.terminate()
            await asyncio.to_thread(told, manager, "STOPPING=1")
            assert await asyncio.to_thread(process.wait, 20) == 0


@in_loop
async def test_rdmaproxy_takes_its_control_socket(manager: socket.socket, tmp_path: Path) -> None:
    """The socket outlives the daemon: whoever connects meanwhile is served by the next one."""
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen()
        for _ in range(2):
            opening = asyncio.create_task(Proxy.open(path))
            command = ("-m", "rdmaproxy", "run", "--socket", path)
            with activated(listening, tmp_path / "log", *command) as process:
                proxy = await opening
                assert proxy.hello["pid"] == process.pid
                await asyncio.to_thread(told, manager, "READY=1")
                await proxy.close()
                process.terminate()
                await asyncio.to_thread(told, manager, "STOPPING=1")
                assert await asyncio.to_thread(process.wait, 20) == 0
            assert os.path.exists(path)
