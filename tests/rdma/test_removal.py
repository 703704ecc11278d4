"""An adapter is deleted under load and comes back: connections end, nothing is left, listening goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from rdmaproxy import devices
from rdmaproxy.adapters import Adapter
from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed, TransferFailed
from smbdirect.control import Proxy, ProxyError
from smbdirect.frames import Access
from smbdirect.pool import Pool

DEVICE = "rxe0"
GONE = 20.0
"""Seconds that the kernel may need to remove a device that nobody holds any more."""
BACK = 20.0
"""Seconds until a new device is listened on."""

pytestmark = pytest.mark.skipif(
    os.environ.get("LAB_FABRIC") != "rxe", reason="deletes an adapter: only inside soft-roce/run"
)


@pytest.fixture
def netdev(adapter: tuple[devices.Address, Adapter]) -> Iterator[str]:
    """The interface of rxe0, which is there again afterwards."""
    yield adapter[1].interface
    if not any(DEVICE in fabric.devices for fabric in devices.fabrics()):
        add(adapter[1].interface)


def delete() -> None:
    subprocess.run(["rdma", "link", "delete", DEVICE], check=True, timeout=GONE)


def add(netdev: str) -> None:
    subprocess.run(
        ["rdma", "link", "add", DEVICE, "type", "rxe", "netdev", netdev], check=True, timeout=20
    )


async def write_for_ever(channel: Channel, pool: Pool, token: bytes) -> None:
    piece = pool.allocate(1 << 20)
    with contextlib.suppress(ChannelClosed, TransferFailed):
        while True:
            await channel.rdma_write(piece, 1 << 20, token)


async def connected(proxy: Proxy, address: str, port: int) -> Channel:
    """Tries until the listener is there again."""
    async with asyncio.timeout(BACK):
        while True:
            try:
                return Channel(*await proxy.connect(address, port, "verbs"))
            except ProxyError:
                await asyncio.sleep(0.2)


@pytest.mark.parametrize("bound", ["0.0.0.0", "its address"])
def test_deleted_and_added_under_load(
    tell: Callable[[Callable[[Proxy], object]], None],
    adapter: tuple[devices.Address, Adapter],
    netdev: str,
    bound: str,
) -> None:
    address = adapter[0].address

    async def story(proxy: Proxy) -> None:
        listener = await proxy.listen(address if bound != "0.0.0.0" else bound, 0, "verbs")
        assert listener.addresses == (address,)
        client = Channel(*await proxy.connect(address, listener.port, "verbs"))
        server = Channel(*await listener.accept())
        pools = Pool(4 << 20), Pool(4 << 20)
        await client.attach(pools[0])
        await server.attach(pools[1])
        token = await client.expose(pools[0].allocate(1 << 20), Access.WRITE)
        load = asyncio.create_task(write_for_ever(server, pools[1], token.pack()))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(delete)  # returns when nobody holds the device any more
        for channel in (client, server):
            with pytest.raises(ChannelClosed):
                await channel.receive()
        await load
        totals = (await proxy.status())["totals"]
        assert (totals["connections"], totals["regions"]) == (0, 0)
        await asyncio.to_thread(add, netdev)
        again = await connected(proxy, address, listener.port)
        taken = Channel(*await listener.accept())
        again.send(b"as before")
        assert bytes(await taken.receive()) == b"as before"
        for channel in (client, server, again, taken):
            channel.close()
        for pool in pools:
            pool.close()
        await listener.close()

    tell(story)
