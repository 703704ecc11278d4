"""A real proxy that connects to itself, on every fabric of this host: the same must happen on each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from smbdirect.channel import Access, Channel, ChannelClosed, RdmaWrite, TransferFailed
from smbdirect.control import Proxy, ProxyError
from smbdirect.pdu import BufferDescriptor
from tests.rdma.conftest import Place, ends

Tell = Callable[[Callable[[Proxy], object]], None]
CYCLES = 200
SETTLE = 10.0
"""Seconds that closed connections have until their resources are gone."""


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
            done = asyncio.get_running_loop().create_future()
            write = RdmaWrite(source, size, token.pack(), lambda *what: done.set_result(what))
            both.server.send(b"response", writes=[write], invalidate=token.token)
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
            assert b"".join(bytes(one.view) for one in pieces)[:size] == sent
            assert await both.server.rdma_read(back, size, array) == size
            assert bytes(back.view[:size]) == sent

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


def resources() -> dict[str, int] | None:
    """What `rdma resource` counts, over all devices; None where it cannot be asked."""
    if shutil.which("rdma") is None:
        return None
    asked = subprocess.run(
        ["rdma", "-j", "resource"], check=False, capture_output=True, text=True, timeout=20
    )
    if asked.returncode != 0 or not asked.stdout.strip():
        return None
    counted: dict[str, int] = {}
    for device in json.loads(asked.stdout):
        for name, count in device.items():
            if isinstance(count, int) and name in ("pd", "cq", "qp", "cm_id", "mr"):
                counted[name] = counted.get(name, 0) + count
    return counted


async def totals(proxy: Proxy) -> dict[str, int]:
    status = (await proxy.status())["totals"]
    return {name: status[name] for name in ("connections", "pools", "regions", "registered_bytes")}


def test_many_connections_leave_nothing(tell: Tell, place: Place) -> None:
    async def settled(proxy: Proxy, before: object) -> object:
        for _ in range(int(SETTLE / 0.1)):
            if (await totals(proxy), resources()) == before:
                break
            await asyncio.sleep(0.1)
        return await totals(proxy), resources()

    async def story(proxy: Proxy) -> None:
        async with ends(proxy, place) as both:  # what stays open from the first connection on
            both.client.send(b"first")
            await both.server.receive()
        await asyncio.sleep(0.5)
        before = await totals(proxy), resources()
        for _ in range(CYCLES):
            async with ends(proxy, place, pools=False) as both:
                both.client.send(b"hello")
                assert bytes(await both.server.receive()) == b"hello"
        assert await settled(proxy, before) == before

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
