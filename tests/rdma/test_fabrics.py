"""A real proxy that connects to itself, on every fabric of this host: the same must happen on each."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed, TransferFailed
from smbdirect.control import Proxy, ProxyError
from smbdirect.frames import Access
from smbdirect.pdu import BufferDescriptor
from smbdirect.rdma_write import RdmaWrite
from smbserver import own_server
from tests.rdma.conftest import Place, ends
from tests.rdma.resources import resources

Tell = Callable[[Callable[[Proxy], object]], None]
CYCLES = int(os.environ.get("LAB_CYCLES", "200"))
WARM_UP = 100
"""Connections after which the proxy has what it keeps."""
GROWTH_MAX = 1 << 20
"""Bytes that the proxy may grow by in `CYCLES`: less than what one connection takes."""
ROUNDS = 3
"""How often it is tried: what the allocator keeps depends on how many connections ended late, side by side."""
SETTLE = 10.0
"""Seconds that closed connections have until their resources are gone."""
POOR = (
    "verbs send queue=24",
    "verbs receive queue=8",
    "verbs sges=1",
    "verbs read depth=1",
    "verbs windows=no",
)
"""An adapter as if it could do hardly anything."""


@pytest.fixture(scope="module", params=["iwarp", "verbs", "poor verbs"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "iwarp":
        return Place("iwarp", "127.0.0.1")
    address, _ = request.getfixturevalue("adapter")
    return Place("verbs", address.address, POOR if request.param == "poor verbs" else ())


@pytest.fixture(scope="module")
def proxy(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[own_server.RunningProxy]:
    folder = tmp_path_factory.mktemp("proxy")
    with own_server.running_proxy(folder, *place.parameters) as running:
        yield running


def test_messages(tell: Tell, place: Place) -> None:
    async def story(proxy: Proxy) -> None:
        async with ends(proxy, place) as both:
            for size in (1, 100, 8168, 8169, 70_000, 1 << 20):
                sent = os.urandom(size)
                both.client.send(sent)
                assert bytes(await both.server.receive()) == sent
                both.server.send(sent[: size // 2], sent[size // 2 :])
                assert bytes(await both.client.receive()) == sent
            assert both.client.facts.fabric == place.fabric
            assert both.server.facts.local[0] == place.address

    tell(story)


@pytest.mark.parametrize("size", [1, 4096, 100_001, 1 << 20, 4 << 20])
def test_write_then_message(tell: Tell, place: Place, size: int) -> None:
    """An SMB2 READ: the payload by RDMA Write, then the response, which invalidates the token."""

    async def story(proxy: Proxy) -> None:
        async with ends(proxy, place) as both:
            target, source = both.client_pool.allocate(size), both.server_pool.allocate(size)
            source.view[:size] = sent = os.urandom(size)
            token = await both.client.expose(target, Access.WRITE)
            assert both.client.facts.invalidation == ("verbs windows=no" not in place.parameters)
            done = asyncio.get_running_loop().create_future()
            write = RdmaWrite(source, size, token.pack(), lambda *what: done.set_result(what))
            invalidate = token.token if both.client.facts.invalidation else None
            both.server.send(b"response", writes=[write], invalidate=invalidate)
            assert bytes(await both.client.receive()) == b"response"
            assert bytes(target.view[:size]) == sent
            assert await done == (0, size)
            await both.client.revoke(token)

    tell(story)


@pytest.mark.parametrize("size", [1, 4096, 100_001, 1 << 20, 4 << 20])
def test_read(tell: Tell, place: Place, size: int) -> None:
    """An SMB2 WRITE: the server fetches the payload."""

    async def story(proxy: Proxy) -> None:
        async with ends(proxy, place) as both:
            source, target = both.client_pool.allocate(size), both.server_pool.allocate(size)
            source.view[:size] = sent = os.urandom(size)
            token = await both.client.expose(source, Access.READ)
            assert await both.server.rdma_read(target, size, token.pack()) == size
            assert bytes(target.view[:size]) == sent
            await both.client.revoke(token)

    tell(story)


def test_several_descriptors(tell: Tell, place: Place) -> None:
    async def story(proxy: Proxy) -> None:
        async with ends(proxy, place) as both:
            pieces = [both.client_pool.allocate(64 << 10) for _ in range(20)]
            tokens = [await both.client.expose(one, Access.READ | Access.WRITE) for one in pieces]
            array = b"".join(token.pack() for token in tokens)
            size = 20 * (64 << 10) - 1000
            local, back = both.server_pool.allocate(size), both.server_pool.allocate(size)
            local.view[:size] = sent = os.urandom(size)
            assert await both.server.rdma_write(local, size, array) == size
            # DONE of a Write does not mean that the peer has it; a Read behind it does.
            assert await both.server.rdma_read(back, size, array) == size
            assert bytes(back.view[:size]) == sent
            assert b"".join(bytes(one.view) for one in pieces)[:size] == sent

    tell(story)


def test_wrong_token(tell: Tell, place: Place) -> None:
    """It costs the connection, not the proxy."""

    async def story(proxy: Proxy) -> None:
        async with ends(proxy, place) as both:
            piece = both.server_pool.allocate(4096)
            wrong = BufferDescriptor(0x1000, 0xDEAD01, 4096).pack()
            with pytest.raises((ChannelClosed, TransferFailed)):
                await both.server.rdma_write(piece, 4096, wrong)
                await both.server.receive()
            with pytest.raises(ChannelClosed):
                await both.client.receive()
        async with ends(proxy, place) as both:
            both.client.send(b"still here")
            assert bytes(await both.server.receive()) == b"still here"

    tell(story)


def test_token_of_another_connection(tell: Tell, place: Place) -> None:
    """What one peer was shown, another cannot use."""
    if "verbs windows=no" in place.parameters:
        pytest.skip("a registration's token is good on all connections of its adapter")

    async def story(proxy: Proxy) -> None:
        async with ends(proxy, place) as one, ends(proxy, place) as other:
            target, source = one.client_pool.allocate(4096), other.server_pool.allocate(4096)
            source.view[:4096] = b"\xff" * 4096
            token = await one.client.expose(target, Access.WRITE)
            with pytest.raises((ChannelClosed, TransferFailed)):
                await other.server.rdma_write(source, 4096, token.pack())
                await other.server.receive()
            assert bytes(target.view[:4096]) == bytes(4096)
            one.client.send(b"unharmed")
            assert bytes(await one.server.receive()) == b"unharmed"

    tell(story)


def test_nobody_listens(tell: Tell, place: Place) -> None:
    async def story(proxy: Proxy) -> None:
        listener = await proxy.listen(place.address, 0, place.fabric)
        await listener.close()
        with pytest.raises(ProxyError) as refused:
            await proxy.connect(place.address, listener.port, place.fabric)
        assert refused.value.code == "ECONNREFUSED"

    tell(story)


async def flood(one: Channel, other: Channel, count: int) -> None:
    for number in range(count):
        one.send(number.to_bytes(4, "big") * 500)
        await one.drain()


def test_both_speak_at_once(tell: Tell, place: Place) -> None:
    async def story(proxy: Proxy) -> None:
        async with ends(proxy, place, pools=False) as both:
            count = 2000
            floods = [
                asyncio.create_task(flood(both.client, both.server, count)),
                asyncio.create_task(flood(both.server, both.client, count)),
            ]
            for number in range(count):
                expected = number.to_bytes(4, "big") * 500
                assert bytes(await both.server.receive()) == expected
                assert bytes(await both.client.receive()) == expected
            await asyncio.gather(*floods)

    tell(story)


async def held(proxy: Proxy) -> dict[str, int]:
    """What connections take: of the proxy's own counts, of its process, of the kernel's RDMA resources."""
    status = (await proxy.status())["totals"]
    names = ("connections", "pools", "regions", "registered_bytes")
    descriptors = len(list(Path(f"/proc/{proxy.hello['pid']}/fd").iterdir()))
    return {
        **{name: status[name] for name in names},
        "descriptors": descriptors,
        **(resources() or {}),
    }


def resident(proxy: Proxy) -> int:
    """Bytes of memory that the proxy has."""
    pages = Path(f"/proc/{proxy.hello['pid']}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def cycle(proxy: Proxy, place: Place, count: int) -> None:
    for _ in range(count):
        async with ends(proxy, place, pools=False) as both:
            both.client.send(b"hello")
            assert bytes(await both.server.receive()) == b"hello"


async def settled(proxy: Proxy, most: dict[str, int]) -> None:
    """Waits until nothing is held of which there is more."""
    for _ in range(int(SETTLE / 0.1)):
        now = await held(proxy)
        more = {name: now[name] for name, count in most.items() if now[name] > count}
        if not more:
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"still held: {more}, of {most}")


@pytest.mark.timeout(60 + 2 * ROUNDS * CYCLES)
def test_many_connections_leave_nothing(tell: Tell, place: Place) -> None:
    async def story(proxy: Proxy) -> None:
        await cycle(proxy, place, WARM_UP)
        await settled(proxy, {"connections": 0, "pools": 0})
        before, sizes = await held(proxy), [resident(proxy)]
        for _ in range(ROUNDS):
            await cycle(proxy, place, CYCLES)
            await settled(proxy, before)
            sizes.append(resident(proxy))
            if sizes[-1] - sizes[-2] <= GROWTH_MAX:
                return
        pytest.fail(f"it grows without end: {sizes}")

    tell(story)


def test_wildcard_listener(tell: Tell, place: Place) -> None:
    async def story(proxy: Proxy) -> None:
        listener = await proxy.listen("0.0.0.0", 0, place.fabric)
        sock, facts = await proxy.connect(place.address, listener.port, place.fabric)
        taken, _ = await listener.accept()
        assert facts.remote == (place.address, listener.port)
        with contextlib.closing(sock), contextlib.closing(taken):
            await listener.close()

    tell(story)
