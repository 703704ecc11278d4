"""A peer on pyverbs alone: it speaks with the proxy, lets it read and write its memory, and then misbehaves.

Every kind of misbehaviour costs its own connection, with the right reason, and nothing else: the next peer is served.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("pyverbs.cmid", reason="python3-pyverbs is missing", exc_type=ImportError)

from rdmaproxy import devices
from rdmaproxy.adapters import Adapter
from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed, TransferFailed
from smbdirect.control import Proxy, ProxyListener
from smbdirect.events import CloseReason
from smbdirect.frames import Access
from smbdirect.pdu import BufferDescriptor, DataTransfer, NegotiateRequest
from smbdirect.pool import Pool
from tests.rdma.verbs_peer import RECEIVES, VerbsPeer

Tell = Callable[[Callable[[Proxy], object]], None]
POOL_SIZE = 8 << 20


@pytest.fixture
def address(adapter: tuple[devices.Address, Adapter]) -> str:
    return adapter[0].address


@asynccontextmanager
async def listening(proxy: Proxy, address: str) -> AsyncIterator[ProxyListener]:
    listener = await proxy.listen(address, 0, "verbs")
    try:
        yield listener
        await serves(listener, address)
    finally:
        await listener.close()


async def serves(listener: ProxyListener, address: str) -> None:
    """Whatever happened before: a peer that behaves is served."""
    peer = await VerbsPeer.connect(address, listener.port)
    server = Channel(*await listener.accept())
    peer.send(b"still here")
    assert bytes(await server.receive()) == b"still here"
    server.send(b"so am I")
    assert await peer.receive() == b"so am I"
    await ended(peer, server)


async def ended(peer: VerbsPeer, server: Channel) -> None:
    server.close()
    await server.wait_closed()
    await peer.until(lambda: peer.closed is not None)
    peer.close()


@asynccontextmanager
async def connected(
    proxy: Proxy, address: str, *, mute: bool = False
) -> AsyncIterator[tuple[VerbsPeer, Channel, Pool]]:
    """The peer, the server's end, and the server's pool; afterwards the listener must serve others."""
    async with listening(proxy, address) as listener:
        peer = await VerbsPeer.connect(address, listener.port, mute=mute)
        server = Channel(*await listener.accept())
        pool = Pool(POOL_SIZE)
        await server.attach(pool)
        try:
            yield peer, server, pool
        finally:
            await ended(peer, server)
            pool.close()


async def reason(channel: Channel) -> CloseReason:
    """Why the proxy ended the connection."""
    with pytest.raises(ChannelClosed) as closed:
        while True:
            await channel.receive()
    return CloseReason(closed.value.reason)


def test_messages(tell: Tell, address: str) -> None:
    """One segment, and hundreds: with more segments than credits both sides must grant on the way."""

    async def story(proxy: Proxy) -> None:
        async with connected(proxy, address) as (peer, server, _):
            for size in (1, 100, 8168, 8169, 70_000, 1 << 20):
                sent = os.urandom(size)
                peer.send(sent)
                assert bytes(await server.receive()) == sent
                server.send(sent)
                assert await peer.receive() == sent

    tell(story)


def test_many_messages_at_once(tell: Tell, address: str) -> None:
    async def story(proxy: Proxy) -> None:
        async with connected(proxy, address) as (peer, server, _):
            numbers = [number.to_bytes(4, "big") * 300 for number in range(1000)]
            for message in numbers:
                peer.send(message)
                server.send(message)
            for message in numbers:
                assert bytes(await server.receive()) == message
                assert await peer.receive() == message

    tell(story)


@pytest.mark.parametrize("size", [1, 4096, 100_001, 4 << 20])
def test_memory(tell: Tell, address: str, size: int) -> None:
    """What the proxy wrote into the peer's memory it reads back from there; beside it nothing changes."""

    async def story(proxy: Proxy) -> None:
        async with connected(proxy, address) as (peer, server, pool):
            memory = bytearray(b"\xee" * (size + 128))
            inner = memoryview(memory)[64:-64]
            descriptor = await peer.expose(inner, Access.READ | Access.WRITE)
            local = pool.allocate(size)
            local.view[:size] = sent = os.urandom(size)
            assert await server.rdma_write(local, size, descriptor.pack()) == size
            assert bytes(inner) == sent
            assert bytes(memory[:64]) == bytes(memory[-64:]) == b"\xee" * 64
            memory[64:-64] = other = bytes(reversed(sent))
            assert await server.rdma_read(local, size, descriptor.pack()) == size
            assert bytes(local.view[:size]) == other
            await peer.revoke(descriptor)

    tell(story)


# It misbehaves.

CREDITS, GRANTED, REMAINING = 255, 0, 0
HEADER = DataTransfer(CREDITS, GRANTED).pack()
PAYLOAD = DataTransfer(CREDITS, GRANTED, payload=b"x" * 64).pack()

MALFORMED = {
    "shorter than a header": [HEADER[:-1]],
    "no credits requested": [b"\0\0" + HEADER[2:]],
    "offset not a multiple of 8": [PAYLOAD[:12] + b"\x19\0\0\0" + PAYLOAD[16:]],
    "offset inside the header": [PAYLOAD[:12] + b"\x08\0\0\0" + PAYLOAD[16:]],
    "payload beyond the end": [PAYLOAD[:16] + b"\x41\0\0\0" + PAYLOAD[20:]],
    "length of 4 GiB": [PAYLOAD[:16] + b"\xff\xff\xff\xff" + PAYLOAD[20:]],
    "a message that never fits": [DataTransfer(CREDITS, remaining=1 << 30, payload=b"x").pack()],
    "segments that disagree": [
        DataTransfer(CREDITS, remaining=100, payload=b"x" * 50).pack(),
        DataTransfer(CREDITS, remaining=90, payload=b"x" * 50).pack(),
    ],
    "more granted than there can be": [DataTransfer(CREDITS, 0xFFFF).pack()] * 2,
    "longer than a receive": [DataTransfer(CREDITS, payload=b"x" * 8192).pack()],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed(tell: Tell, address: str, what: str) -> None:
    async def story(proxy: Proxy) -> None:
        async with connected(proxy, address) as (peer, server, _):
            for message in MALFORMED[what]:
                peer.send_raw(message)
            assert await reason(server) is CloseReason.PROTOCOL_ERROR

    tell(story)


def test_more_messages_than_credits(tell: Tell, address: str) -> None:
    """The peer grants nothing, so it cannot be granted anything: its 256th message has no credit."""

    async def story(proxy: Proxy) -> None:
        async with connected(proxy, address, mute=True) as (peer, server, _):
            for _ in range(RECEIVES + 1):
                peer.send_raw(PAYLOAD)
            assert await reason(server) is CloseReason.PROTOCOL_ERROR

    tell(story)


@pytest.mark.parametrize("direction", ["write", "read"])
@pytest.mark.parametrize("what", ["another token", "behind its end", "taken away"])
def test_wrong_memory(tell: Tell, address: str, direction: str, what: str) -> None:
    async def story(proxy: Proxy) -> None:
        async with connected(proxy, address) as (peer, server, pool):
            memory = bytearray(b"\xee" * 16384)
            shown = await peer.expose(memoryview(memory)[:4096], Access.READ | Access.WRITE)
            local = pool.allocate(4096)
            local.view[:] = b"\x11" * 4096
            named = shown
            if what == "another token":
                named = BufferDescriptor(shown.offset, shown.token ^ 0x55, shown.length)
            elif what == "behind its end":
                named = BufferDescriptor(shown.offset + 1, shown.token, shown.length)
            else:
                peer.withdraw()
            transfer = server.rdma_write if direction == "write" else server.rdma_read
            with pytest.raises((TransferFailed, ChannelClosed)):
                await transfer(local, 4096, named.pack())
            assert await reason(server) is CloseReason.REMOTE_ACCESS
            assert bytes(memory) == b"\xee" * 16384
            assert bytes(local.view) == b"\x11" * 4096

    tell(story)


def test_vanishes(tell: Tell, address: str) -> None:
    """No farewell, no answer: the adapter's retries end the connection."""

    async def story(proxy: Proxy) -> None:
        async with connected(proxy, address) as (peer, server, pool):
            memory = bytearray(4096)
            shown = await peer.expose(memoryview(memory), Access.WRITE)
            peer.vanish()
            with pytest.raises((TransferFailed, ChannelClosed)):
                await server.rdma_write(pool.allocate(4096), 4096, shown.pack())
            assert await reason(server) is CloseReason.PEER_LOST

    tell(story)


def test_unknown_version(tell: Tell, address: str) -> None:
    """It is refused with a status, not with silence ([MS-SMBD] 3.1.5.6)."""

    async def story(proxy: Proxy) -> None:
        async with listening(proxy, address) as listener:
            strange = NegotiateRequest(
                255, 8192, 8192, 1 << 20, min_version=0x200, max_version=0x200
            )
            peer = await VerbsPeer.connect(address, listener.port, greeting=strange.pack())
            assert peer.closed is not None
            assert peer.closed.words == "the server refused the negotiation"
            peer.close()

    tell(story)


def test_leaves_in_the_middle_of_a_transfer(tell: Tell, address: str) -> None:
    async def story(proxy: Proxy) -> None:
        async with connected(proxy, address) as (peer, server, pool):
            memory = bytearray(4 << 20)
            shown = await peer.expose(memoryview(memory), Access.READ)
            local = pool.allocate(4 << 20)
            reading = server.rdma_read(local, 4 << 20, shown.pack())
            peer.leave()
            with pytest.raises((TransferFailed, ChannelClosed)):
                await reading
            assert await reason(server) is CloseReason.BY_PEER

    tell(story)
