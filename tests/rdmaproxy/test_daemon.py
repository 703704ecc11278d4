"""The daemon as a process with iWARP on the loopback: the whole way of messages and memory, and all faults."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from smbdirect import frames
from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed, TransferFailed
from smbdirect.close_reason import CloseReason
from smbdirect.control import Proxy, ProxyError, ProxyUnavailable
from smbdirect.frames import Access, FrameType, Status
from smbdirect.pdu import BufferDescriptor
from smbdirect.pool import PAGE, Pool
from smbdirect.rdma_write import RdmaWrite
from tests.rdmaproxy.running import Daemon, channels, held, run, running, until

MIB = 1 << 20
FLOOD_MAX = 64 * MIB
"""Bytes of frames after which a proxy that still takes more counts as unbounded."""
IDLE = 100
"""Channels that do nothing."""
IDLE_MAX = 5 * MIB // 2
"""Bytes of the proxy's memory for one idle channel."""
WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def other() -> Iterator[Daemon]:
    with running() as found:
        yield found


@contextlib.asynccontextmanager
async def connected(
    daemon: Daemon, other: Daemon | None = None
) -> AsyncIterator[tuple[Proxy, Channel, Channel]]:
    """A proxy's client with a connected pair of channels; all is closed, and seen to be gone, at the end."""
    proxy = await Proxy.open(daemon.control)
    connecting = await Proxy.open(other.control) if other else proxy
    before = await held(proxy)
    client, server = await channels(proxy, connecting)
    try:
        yield proxy, client, server
    finally:
        for channel in (client, server):
            channel.close()
            await channel.wait_closed()
        await until(lambda: _same(proxy, before))
        await connecting.close()
        await proxy.close()


async def _same(proxy: Proxy, before: dict[str, int]) -> bool:
    return await held(proxy) == before


async def pools(client: Channel, server: Channel, size: int = 4 * MIB) -> tuple[Pool, Pool]:
    theirs, ours = Pool(size), Pool(size)
    await asyncio.gather(client.attach(theirs), server.attach(ours))
    return theirs, ours


# -- the way of messages and memory


@pytest.mark.parametrize("two", [False, True], ids=["one daemon", "two daemons"])
def test_messages_go_both_ways(daemon: Daemon, other: Daemon, two: bool) -> None:
    async def story() -> None:
        async with connected(daemon, other if two else None) as (_, client, server):
            assert client.facts.local == server.facts.remote
            assert client.facts.remote == server.facts.local
            assert (client.facts.role, server.facts.role) == ("client", "server")
            limit = client.facts.max_fragmented_send_size
            bodies = [os.urandom(n) for n in (1, 8192, 100_000)] + [os.urandom(limit)]
            for body in bodies:
                client.send(body)
            for body in bodies:
                received = await server.receive()
                assert received == body
                server.send(received)
            for body in bodies:
                assert await client.receive() == body

    run(story)


@pytest.mark.parametrize("two", [False, True], ids=["one daemon", "two daemons"])
def test_memory_moves_both_ways(daemon: Daemon, other: Daemon, two: bool) -> None:
    async def story() -> None:
        async with connected(daemon, other if two else None) as (_, client, server):
            theirs, ours = await pools(client, server)
            target, source = theirs.allocate(MIB + 5), ours.allocate(MIB + 5)
            target.view[:] = os.urandom(MIB + 5)
            descriptor = await client.expose(target, Access.READ | Access.WRITE)
            assert await server.rdma_read(source, MIB + 5, descriptor.pack()) == MIB + 5
            assert source.view == target.view
            source.view[:] = os.urandom(MIB + 5)
            server.send(b"written", writes=[])
            assert await server.rdma_write(source, MIB + 5, descriptor.pack()) == MIB + 5
            server.send(b"now")
            assert bytes(await client.receive()) == b"written"
            assert bytes(await client.receive()) == b"now"
            assert source.view == target.view
            await client.revoke(descriptor)
            assert server.statistics().bytes_rdma_read == MIB + 5
            assert server.statistics().bytes_rdma_written == MIB + 5
            theirs.close()
            ours.close()

    run(story)


def test_a_write_is_there_when_the_message_behind_it_comes(daemon: Daemon) -> None:
    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            theirs, ours = await pools(client, server)
            for turn in range(20):
                with theirs.allocate(MIB) as target, ours.allocate(MIB) as source:
                    descriptor = await client.expose(target, Access.WRITE)
                    source.view[:] = bytes([turn]) * MIB
                    write = RdmaWrite(source, MIB, descriptor.pack())
                    server.send(b"%d" % turn, writes=[write], invalidate=descriptor.token)
                    assert bytes(await client.receive()) == b"%d" % turn
                    assert bytes(target.view) == bytes([turn]) * MIB
                    await client.revoke(descriptor)  # the peer ended it: that is no error
            theirs.close()
            ours.close()

    run(story)


def test_several_descriptors_are_one_buffer(daemon: Daemon) -> None:
    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            theirs, ours = await pools(client, server)
            pieces = [theirs.allocate(size) for size in (PAGE, 3 * PAGE + 1, 2 * PAGE)]
            described = b"".join(
                [(await client.expose(piece, Access.READ)).pack() for piece in pieces]
            )
            for piece in pieces:
                piece.view[:] = os.urandom(piece.length)
            whole = b"".join(bytes(piece.view) for piece in pieces)
            source = ours.allocate(len(whole))
            assert await server.rdma_read(source, len(whole) - 7, described) == len(whole) - 7
            assert bytes(source.view)[:-7] == whole[:-7]
            assert bytes(source.view)[-7:] == bytes(7)
            theirs.close()
            ours.close()

    run(story)


def test_a_revoked_range_is_out_of_reach(daemon: Daemon) -> None:
    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            theirs, ours = await pools(client, server)
            descriptor = await client.expose(theirs.allocate(PAGE), Access.WRITE)
            await client.revoke(descriptor)
            with pytest.raises((TransferFailed, ChannelClosed)):
                await server.rdma_read(ours.allocate(PAGE), PAGE, descriptor.pack())
            with pytest.raises(ChannelClosed) as caught:
                await server.receive()
            assert caught.value.reason == CloseReason.REMOTE_ACCESS
            theirs.close()
            ours.close()

    run(story)


def test_one_pool_on_two_channels_is_mapped_and_registered_once(daemon: Daemon) -> None:
    async def story() -> None:
        async with connected(daemon) as (proxy, client, server):
            pool = Pool(MIB)
            mappings = daemon.pool_mappings()
            await client.attach(pool)
            once = await held(proxy)
            assert daemon.pool_mappings() == mappings + 1
            await server.attach(pool)
            assert await held(proxy) == once
            assert once["pools"] == 1
            assert daemon.pool_mappings() == mappings + 1
            descriptor = await client.expose(pool.allocate(PAGE), Access.READ)
            assert await server.rdma_read(pool.allocate(PAGE), PAGE, descriptor.pack()) == PAGE
            pool.close()

    run(story)


def test_a_connection_that_cannot_be_made_is_told(daemon: Daemon) -> None:
    async def story() -> None:
        proxy = await Proxy.open(daemon.control)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(ProxyError):
            await proxy.connect("127.0.0.1", port)
        with pytest.raises(ProxyError):
            await proxy.connect("no address", 5445)
        listener = await proxy.listen("127.0.0.1", 0)
        with pytest.raises(ProxyError) as caught:
            await proxy.listen("127.0.0.1", listener.port)
        assert caught.value.code == "EADDRINUSE"
        with pytest.raises(ProxyError, match="fabric"):
            await proxy.listen("127.0.0.1", 0, fabric="carrier pigeons")
        await proxy.close()

    run(story)


# -- the end of a worker


def test_a_worker_killed_in_the_middle_of_rdma_leaves_nothing_and_harms_nobody(
    daemon: Daemon,
) -> None:
    async def story() -> None:
        async with connected(daemon) as (proxy, client, server):
            theirs, ours = await pools(client, server)
            target, source = theirs.allocate(MIB), ours.allocate(MIB)
            descriptor = (await client.expose(target, Access.READ | Access.WRITE)).pack()
            before = await held(proxy), daemon.descriptors(), daemon.pool_mappings()
            sent, received = hashlib.sha256(), hashlib.sha256()
            for _ in range(3):
                worker = await asyncio.create_subprocess_exec(
                    sys.executable, str(WORKER), daemon.control, stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": str(WORKER.parents[2])},
                )  # fmt: skip
                assert worker.stdout is not None
                assert await worker.stdout.readline() == b"moving\n"
                assert (await held(proxy))["pools"] == 4
                for turn in range(40):
                    if turn == 10:
                        worker.send_signal(signal.SIGKILL)
                    source.view[:] = os.urandom(MIB)
                    sent.update(source.view)
                    await server.rdma_write(source, MIB, descriptor)
                    source.view[:] = bytes(MIB)
                    await server.rdma_read(source, MIB, descriptor)
                    received.update(source.view)
                await worker.wait()

                async def restored() -> bool:
                    now = await held(proxy), daemon.descriptors(), daemon.pool_mappings()
                    return now == before

                await until(restored)
            assert sent.digest() == received.digest()
            theirs.close()
            ours.close()

    run(story)


def test_a_control_connection_may_end_and_its_channels_live_on(daemon: Daemon) -> None:
    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            owner = await Proxy.open(daemon.control)
            first, second = await channels(owner)
            listener = await owner.listen("127.0.0.1", 0)
            await owner.close()
            first.send(b"still here")
            assert bytes(await second.receive()) == b"still here"
            first.close()
            assert await _refused(listener.port)
            client.send(b"others too")
            assert bytes(await server.receive()) == b"others too"
            with pytest.raises(ChannelClosed):
                await second.receive()

    run(story)


async def _refused(port: int) -> bool:
    """Whether the port is closed, now or soon."""

    async def closed() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    await until(closed)
    return True


# -- what a worker may try


def _frame_of(kind: FrameType, pool: int, offset: int, length: int) -> bytes:
    descriptors = BufferDescriptor(0, 1, 0xFFFFFFFF).pack()
    return frames.pack_rdma(kind, 1, pool, offset, length, descriptors)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (_frame_of(FrameType.RDMA_WRITE, 1, MIB, 1), "of a pool of 1048576 bytes"),
        (_frame_of(FrameType.RDMA_WRITE, 1, 0, MIB + 1), "of a pool of 1048576 bytes"),
        (_frame_of(FrameType.RDMA_READ, 1, (1 << 64) - 1, 2), "of a pool of 1048576 bytes"),
        (_frame_of(FrameType.RDMA_READ, 1, 1, (1 << 64) - 1), "of a pool of 1048576 bytes"),
        (_frame_of(FrameType.RDMA_READ, 2, 0, 1), "pool"),
        (_frame_of(FrameType.RDMA_READ, 0, 0, 1), "pool"),
        (frames.Expose(1, 1, 1, MIB - 1, 2).pack(), "of a pool of 1048576 bytes"),
        (frames.Expose(1, 9, 1, 0, 1).pack(), "pool"),
        (frames.Done(1, 0, 0).pack(), "0x84"),
        (frames.header(0x7F, 0), "0x7f"),
        (frames.header(FrameType.RDMA_WRITE, 0xFFFFFF), "0x82"),
        (frames.header(FrameType.RDMA_WRITE, 3) + b"abc", "0x82"),
        (frames.Pool(MIB).pack(), "0x80"),
    ],
)
def test_a_bad_frame_ends_its_channel_with_words(daemon: Daemon, frame: bytes, words: str) -> None:
    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            pool = Pool(MIB)
            await server.attach(pool)
            server._outgoing.add(frame)
            with pytest.raises(ChannelClosed) as caught:
                await server.receive()
            assert caught.value.reason == CloseReason.WORKER_ERROR
            assert words in caught.value.words
            with pytest.raises(ChannelClosed):
                await client.receive()
            pool.close()

    run(story)


def test_descriptors_that_do_not_cover_the_length_are_refused_and_the_channel_lives(
    daemon: Daemon,
) -> None:
    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            _, ours = await pools(client, server)
            short = BufferDescriptor(0, 1, PAGE - 1).pack()
            with pytest.raises(TransferFailed) as caught:
                await server.rdma_read(ours.allocate(PAGE), PAGE, short)
            assert caught.value.status == Status.REFUSED
            server.send(b"alive")
            assert bytes(await client.receive()) == b"alive"

    run(story)


def test_memory_that_could_shrink_is_refused_and_pools_cannot(daemon: Daemon) -> None:
    class Loose:
        """A memfd without seals, in a pool's clothes."""

        size = MIB
        closed = False

        def __init__(self, sealed: int = 0) -> None:
            self.fd = os.memfd_create("loose", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.fd, MIB)
            if sealed:
                fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, sealed)

    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            for loose in (Loose(), Loose(fcntl.F_SEAL_GROW)):
                with pytest.raises(TransferFailed, match="F_SEAL_SHRINK"):
                    await server.attach(loose)  # type: ignore[arg-type]
                os.close(loose.fd)
            pool = Pool(MIB)
            await server.attach(pool)
            with pytest.raises(PermissionError):
                os.ftruncate(pool.fd, 0)
            server.send(b"alive")
            assert bytes(await client.receive()) == b"alive"
            pool.close()

    run(story)


def test_a_flood_of_frames_by_a_worker_that_does_not_read_is_bounded(daemon: Daemon) -> None:
    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            flooder, victim = await channels(await Proxy.open(daemon.control))
            pool = Pool(MIB)
            await flooder.attach(pool)
            memory = daemon.memory()
            flooder.pause_reading()
            refused = frames.pack_rdma(FrameType.RDMA_READ, 1, 1, 0, PAGE, bytes(16)) * 1000
            assert _flood(flooder._sock, refused) < FLOOD_MAX
            assert daemon.memory() < memory + 16 * MIB
            client.send(b"unaffected")
            assert bytes(await server.receive()) == b"unaffected"
            flooder.close()
            with pytest.raises(ChannelClosed):
                await victim.receive()
            pool.close()

    run(story)


def _flood(sock: socket.socket, data: bytes) -> int:
    """Writes until the proxy takes no more; how much it took."""
    taken = 0
    room = select.poll()
    room.register(sock, select.POLLOUT)
    while taken < FLOOD_MAX and room.poll(500):
        try:
            taken += sock.send(data)
        except BlockingIOError:
            continue
    return taken


def test_a_client_that_does_not_read_stops_its_peer_and_nobody_else(daemon: Daemon) -> None:
    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            lazy, busy = await channels(await Proxy.open(daemon.control))
            memory = daemon.memory()
            body = bytes(MIB)

            async def fill() -> None:
                while True:
                    busy.send(body)
                    await busy.drain()

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await fill()
            assert daemon.memory() < memory + 64 * MIB
            client.send(b"unaffected")
            assert bytes(await server.receive()) == b"unaffected"
            count = busy.statistics().messages_sent
            for _ in range(count):
                assert len(await lazy.receive()) == MIB
            lazy.close()
            busy.close()

    run(story)


# -- the end of the daemon


def test_sigterm_ends_connections_in_good_order(other: Daemon) -> None:
    with running() as daemon:

        async def story() -> None:
            proxy, far = await Proxy.open(daemon.control), await Proxy.open(other.control)
            client, server = await channels(proxy, far)
            pool = Pool(MIB)
            await server.attach(pool)
            server.send(b"last words")
            daemon.process.send_signal(signal.SIGTERM)
            assert bytes(await client.receive()) == b"last words"
            for channel in (client, server):
                with pytest.raises(ChannelClosed) as caught:
                    await channel.receive()
                assert caught.value.reason in (CloseReason.SHUTDOWN, CloseReason.BY_PEER)
            with pytest.raises((ProxyUnavailable, ProxyError)):
                await proxy.listen("127.0.0.1", 0)
            await proxy.wait_closed()
            await far.close()
            pool.close()

        run(story)
        assert daemon.process.wait(20) == 0
        assert "event=drain_deadline" not in daemon.log


def test_the_drains_deadline_holds() -> None:
    with running("drain deadline=0.3", "send timeout=60") as daemon:

        async def story() -> None:
            proxy = await Proxy.open(daemon.control)
            client, server = await channels(proxy)
            for _ in range(64):
                server.send(bytes(MIB))
            await client.attach(Pool(PAGE))
            client.pause_reading()
            daemon.process.send_signal(signal.SIGTERM)
            await proxy.wait_closed()
            server.close()
            client.close()

        run(story)
        assert daemon.process.wait(20) == 0


def test_the_log_has_a_line_for_each_event_of_life(daemon: Daemon) -> None:
    async def story() -> None:
        async with connected(daemon) as (_, client, server):
            client.send(b"x" * 1000)
            await server.receive()
        number = server.facts.connection

        def lines_of_it() -> list[str]:
            return [line for line in daemon.log.splitlines() if f" connection={number} " in line]

        async def told() -> bool:
            return len(lines_of_it()) == 2

        await until(told)
        lines = lines_of_it()
        assert "event=connection_accepted" in lines[0]
        assert "event=connection_closed" in lines[1]
        assert "reason=" in lines[1]
        assert "bytes_received=1000" in lines[1]

    run(story)


def test_a_quiet_connection_gives_back_what_a_rush_has_touched() -> None:
    """255 segments of 8 KiB to send from and as many to receive into are 4 MiB for each connection."""

    async def story() -> None:
        proxy = await Proxy.open(daemon.control)
        pairs = [await channels(proxy) for _ in range(4)]
        memory = daemon.memory()
        body = os.urandom(MIB)

        async def rush(client: Channel, server: Channel) -> None:
            for _ in range(20):
                client.send(body)
                server.send(body)
            for _ in range(20):
                assert await client.receive() == body
                assert await server.receive() == body

        async def quiet() -> bool:
            rests = (await proxy.status())["counters"]["smbd_rests"]
            return rests >= 8 and daemon.memory() < memory + 8 * IDLE_MAX

        for pair in pairs:
            await rush(*pair)
        await until(quiet)
        assert (await proxy.status())["counters"]["smbd_rests"] >= 8
        for pair in pairs:
            await rush(*pair)
            for channel in pair:
                channel.close()
        await proxy.close()

    with running() as daemon:
        run(story)


def test_an_idle_daemon_does_not_spin(daemon: Daemon) -> None:
    async def story() -> None:
        proxy = await Proxy.open(daemon.control)
        pairs = [await channels(proxy) for _ in range(IDLE // 2)]
        wakeups, seconds = (await proxy.status())["totals"]["wakeups"], daemon.cpu_seconds()
        await asyncio.sleep(1.0)  # of doing nothing, which is what is measured
        assert (await proxy.status())["totals"]["wakeups"] - wakeups < 50
        assert daemon.cpu_seconds() - seconds < 0.1
        for pair in pairs:
            for channel in pair:
                channel.close()
        await proxy.close()

    run(story)
