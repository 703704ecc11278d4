"""What strangers may try on the RDMA port: each costs its own connection, is counted, and harms nobody."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed
from smbdirect.close_reason import CloseReason
from smbdirect.control import Proxy, ProxyListener
from smbdirect.pdu import DataTransfer
from tests.rdmaproxy.running import Daemon, channels, held, run, running, until
from tests.rdmaproxy.stranger import (
    MPA_CRC,
    MPA_KEY,
    MPA_REQUEST,
    REQUEST,
    SEND,
    Stranger,
    fpdu,
    read_request,
    tagged,
    untagged,
)

MIB = 1 << 20
SILENT = 1000
"""TCP connections that never say a word."""
TRICKLERS = 40
TRICKLE_PAUSE = 0.1
"""Seconds between two bytes: less than every deadline, so that only a deadline for the whole can end it."""
DEADLINE = 2
"""Seconds for the negotiation, of the daemons that wait for somebody."""

Act = Callable[[Stranger], Awaitable[None]]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as found:
        yield found


@asynccontextmanager
async def unharmed(daemon: Daemon) -> AsyncIterator[tuple[Proxy, ProxyListener]]:
    """A listener for strangers. A pair of others works before and after, and nothing is left of the strangers."""
    proxy = await Proxy.open(daemon.control)
    client, server = await channels(proxy)
    listener = await proxy.listen("127.0.0.1", 0)
    before = await held(proxy)
    yield proxy, listener
    await until(lambda: _same(proxy, before))
    client.send(b"unharmed")
    assert bytes(await server.receive()) == b"unharmed"
    for channel in (client, server):
        channel.close()
        await channel.wait_closed()
    await proxy.close()


async def _same(proxy: Proxy, before: dict[str, int]) -> bool:
    return await held(proxy) == before


async def counters(proxy: Proxy) -> dict[str, int]:
    found: dict[str, int] = (await proxy.status())["counters"]
    return found


# -- bytes that are wrong


def raw(data: bytes) -> Act:
    return lambda stranger: stranger.say(data)


def first(ulpdu: bytes, flags: int = 0) -> Act:
    """After MPA's frames."""

    async def act(stranger: Stranger) -> None:
        await stranger.begin(flags)
        await stranger.say(fpdu(ulpdu))

    return act


def negotiation(message: bytes) -> Act:
    return first(untagged(SEND, message, 1))


def later(*ulpdus: bytes) -> Act:
    """After SMB Direct's negotiation."""

    async def act(stranger: Stranger) -> None:
        await stranger.negotiate()
        for ulpdu in ulpdus:
            await stranger.say(fpdu(ulpdu))

    return act


def transfers(*messages: DataTransfer) -> Act:
    async def act(stranger: Stranger) -> None:
        await stranger.negotiate()
        for message in messages:
            await stranger.transfer(message)

    return act


ENOUGH = 600
"""More messages than a client has credits for that grants one and no more."""

BAD: dict[str, tuple[str, Act]] = {
    "no MPA": ("iwarp_mpa_errors", raw(b"GET / HTTP/1.1\r\nHost: storage\r\n\r\n")),
    "markers": ("iwarp_mpa_errors", raw(MPA_REQUEST.pack(MPA_KEY, 0x80, 1, 0))),
    "private data beyond all": ("iwarp_mpa_errors", raw(MPA_REQUEST.pack(MPA_KEY, 0, 1, 60000))),
    "no DDP segment": ("iwarp_ddp_errors", first(b"")),
    "CRC that is wrong": (
        "iwarp_crc_errors",
        first(untagged(SEND, REQUEST.pack(), 1), flags=MPA_CRC),
    ),
    "DDP version 3": ("iwarp_ddp_errors", first(b"\x43" + untagged(SEND, b"", 1)[1:])),
    "queue 9": ("iwarp_ddp_errors", first(untagged(SEND, b"", 1, queue=9))),
    "a message number of later": ("iwarp_ddp_errors", first(untagged(SEND, b"", 77))),
    "longer than the receive": ("iwarp_ddp_errors", first(untagged(SEND, bytes(20000), 1))),
    "opcode 13": ("iwarp_rdmap_errors", first(untagged(13, b"", 1))),
    "a write to nowhere": ("iwarp_access_refusals", later(tagged(0, b"data", 0x1234567, 0))),
    "a read of nothing": ("iwarp_access_refusals", later(read_request(0x1234567))),
    "a response to nobody": ("iwarp_ddp_errors", later(tagged(2, b"data", 0x100, 0))),
    "version 2.0": (
        "smbd_negotiation_refusals",
        negotiation(replace(REQUEST, min_version=0x200, max_version=0x200).pack()),
    ),
    "no credits wanted": (
        "smbd_negotiation_refusals",
        negotiation(replace(REQUEST, credits_requested=0).pack()),
    ),
    "receives of 100 bytes": (
        "smbd_negotiation_refusals",
        negotiation(replace(REQUEST, max_receive_size=100).pack()),
    ),
    "half a request": ("smbd_negotiation_refusals", negotiation(REQUEST.pack()[:11])),
    "a message of 3 bytes": ("smbd_protocol_errors", later(untagged(SEND, b"abc", 3))),
    "credits of 0": ("smbd_protocol_errors", transfers(DataTransfer(0))),
    "a grant beyond all queues": ("smbd_protocol_errors", transfers(DataTransfer(10, 0xFFFF))),
    # A credit stands for a posted receive: whoever looks first refuses.
    "messages without credits": (
        "smbd_protocol_errors iwarp_ddp_errors",
        transfers(*[DataTransfer(10, payload=b"x")] * ENOUGH),
    ),
    "fragments that grow": (
        "smbd_protocol_errors",
        transfers(
            DataTransfer(10, remaining=100, payload=bytes(10)),
            DataTransfer(10, remaining=95, payload=bytes(10)),
        ),
    ),
    "fragments of 4 GiB": (
        "smbd_protocol_errors",
        transfers(DataTransfer(10, remaining=0xFFFFFFFF, payload=bytes(10))),
    ),
    "payload outside the message": (
        "smbd_protocol_errors",
        later(untagged(SEND, DataTransfer(10, payload=b"x").pack()[:-1], 3)),
    ),
}


@pytest.mark.parametrize(("counted", "act"), BAD.values(), ids=BAD.keys())
def test_what_is_malformed_ends_its_connection(daemon: Daemon, counted: str, act: Act) -> None:
    """`counted`: the counter, or those of which one must rise."""

    async def story() -> None:
        async with unharmed(daemon) as (proxy, listener):
            before = await counters(proxy)
            async with await Stranger.connect(listener.port) as stranger:
                await act(stranger)
                await stranger.ended()
            after = await counters(proxy)
            risen = {name for name in after if after[name] > before[name]}
            assert risen.intersection(counted.split()), risen

    run(story)


# -- bytes that come slowly, or not at all


@pytest.fixture
def room_for_silent() -> Iterator[None]:
    """Enough descriptors for this process, and for the daemon that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * SILENT:
        pytest.skip(f"RLIMIT_NOFILE is {hard}, {2 * SILENT} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("room_for_silent")
def test_a_thousand_silent_connections_are_bounded_and_harm_nobody() -> None:
    async def story() -> None:
        async with unharmed(daemon) as (proxy, listener):
            client, server = await channels(proxy)
            descriptors, memory = daemon.descriptors(), daemon.memory()
            silent = [socket.socket() for _ in range(SILENT)]
            for sock in silent:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", listener.port))
            for _ in range(50):
                client.send(b"unaffected")
                assert bytes(await server.receive()) == b"unaffected"
            assert daemon.descriptors() < descriptors + SILENT // 2
            assert daemon.memory() < memory + 64 * MIB

            async def gone() -> bool:
                return daemon.descriptors() <= descriptors + 1

            await until(gone)
            sock, _ = await proxy.connect("127.0.0.1", listener.port)
            accepted, _ = await listener.accept()
            found = await counters(proxy)
            ended = found["iwarp_half_open_refusals"] + found["iwarp_mpa_timeouts"]
            assert ended >= SILENT // 2
            for one in (sock, accepted, *silent, client, server):
                one.close()

    with running(f"negotiate timeout={DEADLINE}") as daemon:
        run(story)


async def trickle(port: int, data: bytes) -> float:
    """Says `data` byte by byte; after how many seconds the other end had enough."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with await Stranger.connect(port) as stranger:
        end = asyncio.ensure_future(stranger.ended())
        for byte in data:
            await stranger.say(bytes([byte]))
            if (await asyncio.wait({end}, timeout=TRICKLE_PAUSE))[0]:
                break
        await end
    return loop.time() - started


def test_who_trickles_is_ended_by_the_deadline_for_the_whole() -> None:
    mpa = MPA_REQUEST.pack(MPA_KEY, 0, 1, 0)
    negotiation = fpdu(untagged(SEND, REQUEST.pack(), 1))
    assert len(negotiation) * TRICKLE_PAUSE > DEADLINE

    async def story() -> None:
        async with unharmed(daemon) as (proxy, listener):
            client, server = await channels(proxy)
            memory = daemon.memory()
            waits = [trickle(listener.port, mpa + bytes(500)) for _ in range(TRICKLERS // 2)]
            waits += [trickle(listener.port, mpa[:-1]) for _ in range(TRICKLERS // 2)]
            tricklers = asyncio.gather(*waits)
            while not tricklers.done():
                client.send(b"unaffected")
                assert bytes(await server.receive()) == b"unaffected"
                assert daemon.memory() < memory + 16 * MIB
                await asyncio.sleep(TRICKLE_PAUSE)
            assert max(await tricklers) < 3 * DEADLINE
            for channel in (client, server):
                channel.close()

    with running(f"negotiate timeout={DEADLINE}") as daemon:
        run(story)


def test_who_trickles_a_segment_is_ended_as_idle() -> None:
    """Bytes alone are no sign of life: the whole message has to come."""

    async def story() -> None:
        async with unharmed(daemon) as (proxy, listener):
            before = (await counters(proxy))["smbd_timeouts"]
            async with await Stranger.connect(listener.port) as stranger:
                await stranger.negotiate()
                sock, _ = await listener.accept()
                message = fpdu(untagged(SEND, bytes(1000), 3))
                end = asyncio.ensure_future(stranger.ended())
                for byte in message:
                    await stranger.say(bytes([byte]))
                    if (await asyncio.wait({end}, timeout=TRICKLE_PAUSE))[0]:
                        break
                assert end.done()
                sock.close()
            assert (await counters(proxy))["smbd_timeouts"] == before + 1

    with running(f"idle timeout={DEADLINE}", f"keepalive interval={DEADLINE / 4}") as daemon:
        run(story)


def test_a_message_that_pauses_in_the_middle_arrives_whole(daemon: Daemon) -> None:
    """Also when memory of quiet connections has been given back meanwhile."""
    payload = bytes(range(256)) * 4

    async def story() -> None:
        async with (
            unharmed(daemon) as (proxy, listener),
            await Stranger.connect(listener.port) as stranger,
        ):
            await stranger.negotiate()
            server = Channel(*await listener.accept())
            message = fpdu(untagged(SEND, DataTransfer(10, payload=payload).pack(), 3))
            await stranger.say(message[:600])
            rests = (await counters(proxy))["smbd_rests"]

            async def others_have_rested() -> bool:
                return (await counters(proxy))["smbd_rests"] >= rests + 2

            await until(others_have_rested)
            await stranger.say(message[600:])
            assert bytes(await server.receive()) == payload
            server.close()
            await server.wait_closed()

    run(story)


def test_who_stops_reading_is_bounded_and_ended() -> None:
    async def story() -> None:
        async with (
            unharmed(daemon) as (_, listener),
            await Stranger.connect(listener.port) as stranger,
        ):
            await stranger.negotiate()
            await stranger.transfer(DataTransfer(10, 240))
            server = Channel(*await listener.accept())
            memory = daemon.memory()
            end = asyncio.ensure_future(server.receive())
            while not end.done():
                server.send(bytes(MIB - 100))
                await server.drain()
                await asyncio.sleep(0)  # a closed channel takes all without a wait
                assert daemon.memory() < memory + 64 * MIB
            with pytest.raises(ChannelClosed) as caught:
                await end
            assert caught.value.reason == CloseReason.TIMEOUT

    with running(f"send timeout={DEADLINE}") as daemon:
        run(story)
