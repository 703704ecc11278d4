"""What one party's end or silence costs the others: nothing. Real processes, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from smbdirect.channel_end import ChannelClosed
from smbdirect.control import Proxy
from smbserver import client
from smbserver.client.multichannel import discover_and_bind
from smbserver.listener import FIRST_FRAME_DEADLINE
from smbserver.own_server import OwnServer, RunningProxy
from smbserver.wire.header import Header
from smbserver.wire.negotiate import Dialect, NegotiateRequest
from tests.rdmaproxy.running import held
from tests.sessions import connect

MIB = 1 << 20
PATIENCE = 90.0
"""Seconds for a test; most of them need three."""
SILENT = 1000
"""Connections that never say a word."""
TRICKLERS = 50
TRICKLE_PAUSE = 0.25
"""Seconds between two bytes."""
BLOCK = 8 * MIB


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, PATIENCE))


async def until(true: Callable[[], Awaitable[Any]]) -> Any:
    """What it gives, once that is something; the story's patience bounds it."""
    while not (found := await true()):
        await asyncio.sleep(0.05)
    return found


async def moves(session: client.Session, server: OwnServer, name: str, data: bytes) -> None:
    """Writes and reads back; the digests are equal."""
    async with await (await session.tree(server.share)).create(name) as file:
        for offset in range(0, len(data), BLOCK):
            await file.write(offset, data[offset : offset + BLOCK])
        back = hashlib.sha256()
        for offset in range(0, len(data), BLOCK):
            back.update(await file.read(offset, min(BLOCK, len(data) - offset)))
    assert back.digest() == hashlib.sha256(data).digest()


async def churn(session: client.Session, server: OwnServer, name: str) -> None:
    """Writes for ever."""
    data = os.urandom(BLOCK)
    async with await (await session.tree(server.share)).create(name) as file:
        while True:
            await asyncio.gather(*(file.write(part * BLOCK, data) for part in range(4)))


def worker_of(server: OwnServer, session: client.Session) -> int:
    guid = session.options.client_guid.hex()
    (pid,) = {one["pid"] for one in server.status()["sessions"] if one["client_guid"] == guid}
    assert isinstance(pid, int)
    return pid


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def pool_mappings(pid: int) -> int:
    return Path(f"/proc/{pid}/maps").read_text().count("memfd:smbdirect-pool")


def memory(pid: int) -> int:
    """Resident bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_a_worker_killed_in_the_middle_of_rdma(server: OwnServer, proxy: RunningProxy) -> None:
    """The proxy returns to what it held; another client's transfer by RDMA goes on undisturbed."""

    async def story() -> None:
        pid = server.status()["proxy_pid"]
        looking = await Proxy.open(server.proxy_path)
        survivor = await connect(server, proxy.control, client_guid=b"s" * 16)
        await moves(survivor, server, "survivor", bytes(MIB))

        async def now() -> tuple[Any, ...]:
            return await held(looking), descriptors(pid), pool_mappings(pid)

        before = await now()
        for _ in range(3):
            victim = await connect(server, proxy.control, client_guid=b"v" * 16)
            churning = asyncio.create_task(churn(victim, server, "victim"))
            while victim.statistics().written_by_rdma < 2 * BLOCK:
                await asyncio.sleep(0)
            moving = asyncio.create_task(moves(survivor, server, "survivor", os.urandom(64 * MIB)))
            await asyncio.sleep(0.05)  # so that it is in the middle
            os.kill(worker_of(server, victim), signal.SIGKILL)
            with pytest.raises(ChannelClosed):
                await churning
            await moving
            await victim.close()

            async def restored() -> bool:
                return await now() == before

            await until(restored)
        moved = survivor.statistics()
        assert moved.inline == 0
        assert moved.written_by_rdma == 3 * 64 * MIB + MIB
        again = await connect(server, proxy.control, client_guid=b"v" * 16)
        await moves(again, server, "victim", os.urandom(MIB))
        for session in (again, survivor):
            await session.close()
        await looking.close()

    run(story())


def test_a_proxy_killed_in_the_middle_of_rdma(server: OwnServer, proxy: RunningProxy) -> None:
    """The session goes on over TCP; RDMA is back without a restart of the server, and is bound again."""

    async def story() -> None:
        told = server.status()
        session = await connect(server, proxy.control, client_guid=b"p" * 16)
        moving = asyncio.create_task(moves(session, server, "file", os.urandom(128 * MIB)))
        while session.statistics().written_by_rdma < 2 * BLOCK:
            await asyncio.sleep(0)
        os.kill(told["proxy_pid"], signal.SIGKILL)
        await moving
        assert [channel.is_rdma for channel in session.channels] == [False]
        assert session.statistics().inline > 0

        async def back() -> bool:
            now = await asyncio.to_thread(server.status)
            return bool(now.get("rdma")) and now["proxy_pid"] != told["proxy_pid"]

        await until(back)
        assert server.status()["pid"] == told["pid"]
        assert session.proxy is not None
        await discover_and_bind(session, session.proxy, server.rdma_port)
        by_rdma = session.statistics().by_rdma
        await moves(session, server, "file", os.urandom(MIB))
        assert session.statistics().by_rdma == by_rdma + 2 * MIB
        await session.close()

    run(story())


async def trickle(port: int, data: bytes) -> float:
    """Says `data` byte by byte; after how many seconds the server had enough."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = asyncio.ensure_future(reader.read())
    for byte in data:
        writer.write(bytes([byte]))
        if (await asyncio.wait({end}, timeout=TRICKLE_PAUSE))[0]:
            break
    await asyncio.gather(end, return_exceptions=True)
    writer.close()
    return time.monotonic() - started


@pytest.mark.slow
def test_a_thousand_silent_connections_and_fifty_that_trickle(
    server: OwnServer, proxy: RunningProxy
) -> None:
    request = NegotiateRequest((Dialect.SMB_3_0,), 1, 0, b"t" * 16)
    message = Header().pack() + request.pack()
    assert len(message) * TRICKLE_PAUSE > 2 * FIRST_FRAME_DEADLINE

    async def story() -> None:
        told = server.status()
        pid = told["pid"]
        session = await connect(server, proxy.control, client_guid=b"o" * 16)
        before, resident = descriptors(pid), memory(pid)
        silent = [stack.enter_context(socket.socket()) for _ in range(SILENT)]
        for sock in silent:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", server.port))
        frame = len(message).to_bytes(4, "big") + message
        tricklers = asyncio.gather(*(trickle(server.port, frame) for _ in range(TRICKLERS)))
        while not tricklers.done():
            await moves(session, server, "others", os.urandom(MIB))
            assert memory(pid) < resident + 64 * MIB
            await asyncio.sleep(0.2)
        assert max(await tricklers) < 2 * FIRST_FRAME_DEADLINE

        async def gone() -> bool:
            refused = (await asyncio.to_thread(server.status))["refused"] - told["refused"]
            return refused == SILENT + TRICKLERS and descriptors(pid) <= before

        await until(gone)
        another = await connect(server, client_guid=b"n" * 16)
        for one in (another, session):
            await one.close()

    with contextlib.ExitStack() as stack:
        run(story())
