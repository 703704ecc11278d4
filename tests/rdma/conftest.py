"""The fabrics of this host: user-space iWARP always, verbs where an adapter is behind an address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from rdmaproxy import devices
from rdmaproxy.adapters import Adapter
from smbdirect.channel import Channel
from smbdirect.control import Proxy
from smbdirect.pool import Pool
from smbserver import own_server
from smbserver.own_server import OwnServer, RunningProxy

POOL_SIZE = 8 << 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """librdmacm keeps an adapter open as long as its process lives, and then nobody can delete it: so those tests
    come last that open one in this process.
    """
    items.sort(key=lambda item: hasattr(getattr(item, "module", None), "VerbsPeer"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listener of a fabric can be bound."""

    fabric: str
    address: str
    parameters: tuple[str, ...] = ()
    """Of the proxy there."""


@dataclass(slots=True)
class Ends:
    """Both ends of one connection, each with a pool of its own."""

    client: Channel
    server: Channel
    client_pool: Pool
    server_pool: Pool


@pytest.fixture(scope="session")
def adapter() -> tuple[devices.Address, Adapter]:
    """The first adapter that is behind an address."""
    found = devices.rdma_adapters()
    if not found:
        pytest.skip("no RDMA adapter is behind an address of this host")
    return found[0]


@pytest.fixture(scope="module", params=["iwarp", "verbs"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "iwarp":
        return Place("iwarp", "127.0.0.1")
    address, _ = request.getfixturevalue("adapter")
    return Place("verbs", address.address)


@pytest.fixture(scope="module")
def served(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A running server on the fabric, with a proxy of its own."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "share").mkdir()
    made = OwnServer(
        folder=folder,
        path=folder / "share",
        port=own_server.free_port(place.address),
        rdma_port=own_server.free_port(place.address),
        addresses=(place.address,),
        rdma_transport="smbdirect-iw" if place.fabric == "iwarp" else "smbdirect",
    )
    with own_server.running(made):
        yield made


@asynccontextmanager
async def ends(proxy: Proxy, place: Place, *, pools: bool = True) -> AsyncIterator[Ends]:
    """A connection of the proxy with itself."""
    listener = await proxy.listen(place.address, 0, place.fabric)
    connecting = proxy.connect(place.address, listener.port, place.fabric)
    sock, facts = await connecting
    client = Channel(sock, facts)
    server = Channel(*await listener.accept())
    made = [Pool(POOL_SIZE), Pool(POOL_SIZE)]
    try:
        if pools:
            await client.attach(made[0])
            await server.attach(made[1])
        yield Ends(client, server, *made)
    finally:
        for channel in (client, server):
            channel.close()
            await channel.wait_closed()
        await listener.close()
        for pool in made:
            pool.close()


Story = Callable[[Proxy], Any]
STORY_TIME = 100
"""Seconds of a story, unless its test has a `timeout` of its own: less than pytest's, whose report says less."""


@pytest.fixture
def tell(proxy: RunningProxy, request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Runs a story with a control connection of its own, in bounded time."""
    marker = request.node.get_closest_marker("timeout")
    limit = marker.args[0] - 20 if marker else STORY_TIME

    async def bounded(story: Story) -> None:
        async with asyncio.timeout(limit):
            control = await Proxy.open(proxy.control)
            try:
                await story(control)
            finally:
                await control.close()

    return lambda story: asyncio.run(bounded(story))
