"""Faults under load: what was written is what is read, payload goes by RDMA again afterwards, nothing is left behind.

load ── client ═══ RDMA ═══► server        a fault ends the RDMA channel, or all of the session
           └────── TCP ────────┘           meanwhile the session goes on here, if it lives
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rdmaproxy import devices
from rdmaproxy.adapters import Adapter
from smbdirect.channel_end import ChannelClosed
from smbdirect.control import Proxy
from smbserver import client
from smbserver.client.multichannel import discover_and_bind
from smbserver.own_server import OwnServer, RunningProxy
from tests.rdma.conftest import Place
from tests.rdma.resources import resources
from tests.sessions import connect

BLOCK, BLOCKS = 256 << 10, 8
PATIENCE = 90.0
"""Seconds until something must have happened; an emulated machine starts a proxy in twenty."""
LINK_DOWN = 5.0
"""Seconds."""
POLL_PAUSE = 0.1

Fault = Callable[[OwnServer], Awaitable[None]]

in_the_lab = pytest.mark.skipif(
    os.environ.get("LAB_FABRIC") != "rxe", reason="changes the host's links: only in soft-roce/run"
)
pytestmark = pytest.mark.timeout(4 * PATIENCE)


class Load:
    """Writes a file block by block, reads each block back and compares, over and over."""

    def __init__(self, file: client.Open) -> None:
        self._file = file
        self._stop = False
        self._blocks = 0
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stop:
            offset = self._blocks % BLOCKS * BLOCK
            sent = self._block(self._blocks)
            await self._file.write(offset, sent)
            assert await self._file.read(offset, BLOCK) == sent
            self._blocks += 1
            self._more.set()

    def _block(self, number: int) -> bytes:
        return number.to_bytes(8, "big") * (BLOCK // 8)

    async def go_on(self, blocks: int = BLOCKS) -> None:
        """Returns when so many more blocks were compared; raises what ended the load."""
        goal = self._blocks + blocks
        async with asyncio.timeout(PATIENCE):
            while self._blocks < goal:
                self._more.clear()
                more = asyncio.create_task(self._more.wait())
                await asyncio.wait((more, self._task), return_when=asyncio.FIRST_COMPLETED)
                more.cancel()
                if self._task.done() and not self._stop:
                    await self._task

    async def end(self) -> bytes:
        """What the file must hold now."""
        self._stop = True
        await self._task
        last = range(self._blocks - BLOCKS, self._blocks)
        return b"".join(self._block(number) for number in sorted(last, key=lambda n: n % BLOCKS))


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(POLL_PAUSE)


async def rdma_again(session: client.Session, served: OwnServer) -> None:
    """A client looks for RDMA again and again; it must find it."""
    assert session.proxy is not None
    async with asyncio.timeout(PATIENCE):
        while not any(channel.is_rdma for channel in session.channels):
            with contextlib.suppress(client.NoRdma):
                await discover_and_bind(session, session.proxy, served.rdma_port)
                return
            await asyncio.sleep(POLL_PAUSE)


async def nothing_is_left(served: OwnServer, before: dict[str, int] | None) -> None:
    """All sessions are gone, and with them their workers' queue pairs and registrations."""
    await until(lambda: served.status().get("sessions") == [])
    await until(lambda: resources(("qp", "mr")) == before)
    proxy = await Proxy.open(served.proxy_path)
    totals = (await proxy.status())["totals"]
    await proxy.close()
    assert (totals["connections"], totals["regions"], totals["pools"]) == (0, 0, 0)


async def survived(served: OwnServer, place: Place, control: str, fault: Fault) -> None:
    """The session lives through a fault that ends its RDMA channel."""
    before = resources(("qp", "mr"))
    async with (
        await connect(served, control, address=place.address) as session,
        await (await session.tree(served.share)).create("survivor") as file,
    ):
        load = Load(file)
        await load.go_on()
        assert session.statistics().written_by_rdma >= BLOCKS * BLOCK
        lost = next(one for one in session.channels if one.is_rdma)
        await fault(served)
        await until(lambda: lost not in session.channels)
        await load.go_on()
        await rdma_again(session, served)
        by_rdma = session.statistics().written_by_rdma
        await load.go_on(2 * BLOCKS)
        assert session.statistics().written_by_rdma > by_rdma
        expected = await load.end()
        assert (served.path / "survivor").read_bytes() == expected
        assert await file.read(0, len(expected)) == expected
    await nothing_is_left(served, before)


async def kill_proxy(served: OwnServer) -> None:
    os.kill(served.status()["proxy_pid"], signal.SIGKILL)


async def link_down(served: OwnServer) -> None:
    """Afterwards the adapter is made anew: rxe of Linux 6.1 sends no connection management any more, for anybody, after
    a farewell that found the link down (rxe_requester leaves the kernel's own queue pair in its error state).
    """
    where = interface(served)
    await command("ip", "link", "set", where, "down")
    await asyncio.sleep(LINK_DOWN)
    await command("ip", "link", "set", where, "up")
    await adapter_deleted(served)


async def adapter_deleted(served: OwnServer) -> None:
    """`rdma link delete` returns when nobody holds the adapter any more."""
    where = interface(served)
    (device,) = (name for fabric in devices.fabrics("verbs") for name in fabric.devices)
    await command("rdma", "link", "delete", device)
    await command("rdma", "link", "add", device, "type", "rxe", "netdev", where)


def interface(served: OwnServer) -> str:
    (found,) = (one for one in devices.addresses() if one.address == served.addresses[0])
    return found.interface


async def command(*words: str) -> None:
    await asyncio.to_thread(subprocess.run, words, check=True, timeout=PATIENCE)


def test_the_proxy_is_killed(served: OwnServer, place: Place, proxy: RunningProxy) -> None:
    asyncio.run(survived(served, place, proxy.control, kill_proxy))


@in_the_lab
def test_the_link_goes_down(
    served: OwnServer, place: Place, proxy: RunningProxy, adapter: tuple[devices.Address, Adapter]
) -> None:
    if place.fabric == "iwarp":
        pytest.skip("127.0.0.1 has no link")
    asyncio.run(survived(served, place, proxy.control, link_down))


@in_the_lab
def test_the_adapter_is_deleted(
    served: OwnServer, place: Place, proxy: RunningProxy, adapter: tuple[devices.Address, Adapter]
) -> None:
    if place.fabric == "iwarp":
        pytest.skip("user-space iWARP has no adapter")
    asyncio.run(survived(served, place, proxy.control, adapter_deleted))


def test_a_worker_is_killed(served: OwnServer, place: Place, proxy: RunningProxy) -> None:
    """It costs its client the session, and nobody anything else; what was written before is there."""

    async def story() -> None:
        before = resources(("qp", "mr"))
        with pytest.raises(ChannelClosed):
            async with await connect(served, proxy.control, address=place.address) as session:
                file = await (await session.tree(served.share)).create("victim")
                load = Load(file)
                await load.go_on()
                (told,) = served.status()["sessions"]
                os.kill(told["pid"], signal.SIGKILL)
                await load.go_on(1 << 30)
        async with (
            await connect(served, proxy.control, address=place.address) as session,
            await (await session.tree(served.share)).create("victim") as file,
        ):
            there = (served.path / "victim").read_bytes()
            assert await file.read(0, len(there)) == there
            load = Load(file)
            await load.go_on(2 * BLOCKS)
            assert session.statistics().written_by_rdma >= BLOCKS * BLOCK
            assert (await load.end()) == (served.path / "victim").read_bytes()
        await nothing_is_left(served, before)

    asyncio.run(story())
