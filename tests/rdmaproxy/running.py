"""A daemon of a test's own, as a process, and what one sees of a process from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smbdirect.channel import Channel
from smbdirect.control import Proxy

START_TIMEOUT = 20.0
STOP_TIMEOUT = 15.0
PATIENCE = 60.0
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Daemon:
    process: subprocess.Popen[str]
    folder: Path
    notifications: str
    """What it told the service manager up to READY."""

    @property
    def control(self) -> str:
        return str(self.folder / "control")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def pool_mappings(self) -> int:
        """Mappings of workers' memory."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return maps.count("memfd:smbdirect-pool")

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(*options: str) -> Iterator[Daemon]:
    """A daemon with `options` (NAME=VALUE), from the moment when it says READY=1."""
    with tempfile.TemporaryDirectory(prefix="rdmaproxy-") as name:
        folder = Path(name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(folder / "notify"))
            manager.settimeout(START_TIMEOUT)
            command = [sys.executable, "-m", "rdmaproxy", "run", "--socket", f"{name}/control"]
            for option in options:
                command += ["--option", option]
            with (folder / "log").open("w") as log:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                    text=True,
                    env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
                )
            try:
                notifications = manager.recv(4096).decode()
            except TimeoutError:
                process.kill()
                raise AssertionError((folder / "log").read_text()) from None
        try:
            yield Daemon(process, folder, notifications)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await story()

    asyncio.run(bounded())


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again, with a pause for the other process; the story's patience bounds it."""
    while not await true():
        await asyncio.sleep(0.02)


async def channels(listening: Proxy, connecting: Proxy | None = None) -> tuple[Channel, Channel]:
    """A client's and a server's channel, connected with each other."""
    listener = await listening.listen("127.0.0.1", 0)
    (client, client_facts), (server, server_facts) = await asyncio.gather(
        (connecting or listening).connect("127.0.0.1", listener.port), listener.accept()
    )
    return Channel(client, client_facts), Channel(server, server_facts)


async def held(proxy: Proxy) -> dict[str, Any]:
    """What the engine holds for workers now."""
    totals = (await proxy.status())["totals"]
    names = ("connections", "half_open", "pools", "pool_bytes", "regions", "registered_bytes")
    return {name: totals[name] for name in names}
