"""The channel: framing in any portions, one sendmsg per wake-up, back-pressure, RDMA frames, ends of all kinds."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbdirect import frames, outgoing
from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed
from smbdirect.channel_facts import ChannelFacts
from smbdirect.close_reason import CloseReason
from smbdirect.frames import Access, FrameType, Status
from smbdirect.inbox import RECEIVE_QUEUE_MAX
from smbdirect.incoming import LARGE_MESSAGE, PEEK_SIZE
from smbdirect.outgoing import GATHER_MAX, IOV_MAX, JOIN_BELOW, SEND_HIGH_WATER
from smbdirect.pdu import BufferDescriptor
from smbdirect.pool import PAGE, Pool
from smbdirect.rdma_write import RdmaWrite
from tests.effort import tries
from tests.smbdirect.far_end import (
    FACTS,
    TCP,
    Collected,
    attached,
    counting_pair,
    message,
    pair,
    run,
)

HEAD = b"head of a message"

# -- framing


@tries(40)
@given(
    st.lists(st.binary(max_size=300), max_size=20),
    st.lists(st.integers(1, 400), min_size=1, max_size=50),
)
def test_messages_arrive_whole_and_in_order_in_any_portions(
    bodies: list[bytes], portions: list[int]
) -> None:
    async def story() -> None:
        channel, peer = pair()
        stream = b"".join(map(message, bodies))
        while stream:
            for portion in portions:
                await peer.write(stream[:portion])
                stream = stream[portion:]
                await asyncio.sleep(0)
        for body in bodies:
            assert bytes(await channel.receive()) == body
        assert channel.statistics().messages_received == len(bodies)
        assert channel.statistics().bytes_inline_received == sum(map(len, bodies))
        peer.sock.close()
        with pytest.raises(ChannelClosed) as caught:
            await channel.receive()
        assert caught.value.reason == CloseReason.PEER_LOST  # no CLOSED: the proxy is gone

    run(story)


def test_byte_by_byte() -> None:
    async def story() -> None:
        channel, peer = pair()
        for byte in message(b"hello") + message(b"") + message(b"world"):
            await peer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert [bytes(await channel.receive()) for _ in range(3)] == [b"hello", b"", b"world"]
        channel.close()

    run(story)


@pytest.mark.parametrize("length", [LARGE_MESSAGE - 1, LARGE_MESSAGE, 1 << 20, 0xFFFFFF])
def test_large_messages_between_small_ones(length: int) -> None:
    async def story() -> None:
        channel, peer = pair()
        large = os.urandom(1 << 16) * (length // (1 << 16) + 1)
        large = large[:length]
        sending = asyncio.create_task(
            peer.write(message(b"before") + message(large) + message(b"after"))
        )
        assert bytes(await channel.receive()) == b"before"
        got = await channel.receive()
        assert got == large
        assert bytes(await channel.receive()) == b"after"
        await sending
        channel.close()

    run(story)


@given(st.lists(st.integers(1, 30) | st.integers(30_000, 100_000), max_size=20))
def test_payload_is_placed_where_it_is_awaited(portions: list[int]) -> None:
    async def story() -> None:
        channel, peer = pair()
        payload = os.urandom(LARGE_MESSAGE)
        stream = message(b"before") + 2 * message(HEAD + payload) + message(b"after")
        memory = bytearray(len(payload))
        asked: list[int] = []

        def place(begun: memoryview, length: int) -> memoryview | None:
            asked.append(length)
            return memoryview(memory) if begun[: len(HEAD)] == HEAD else None

        channel.place_messages(place)
        got = Collected(channel)
        for size in (*portions, len(stream)):
            await peer.write(stream[:size])
            stream = stream[size:]
            await asyncio.sleep(0)
        await got.count(4)
        assert asked.count(len(HEAD + payload)) == len(asked)
        assert (got.messages[0], got.messages[3]) == (b"before", b"after")
        whole = [HEAD + payload] * got.messages.count(HEAD + payload)
        assert [HEAD] * got.messages.count(HEAD) + whole == sorted(got.messages[1:3], key=len)
        assert HEAD not in got.messages or memory == payload
        assert channel.statistics().bytes_inline_received == 11 + 2 * len(HEAD + payload)
        channel.close()

    run(story)


def test_behind_a_large_message_the_payload_of_the_next_is_not_copied() -> None:
    async def story() -> None:
        channel, peer = pair()
        begun: list[int] = []
        memory = bytearray(1 << 20)

        def place(given: memoryview, length: int) -> memoryview:
            begun.append(len(given))
            return memoryview(memory)[: length - len(HEAD)]

        channel.place_messages(place)
        got = Collected(channel)
        sending = asyncio.create_task(peer.write(4 * message(HEAD + b"x" * len(memory))))
        await got.count(4)
        await sending
        assert all(length <= PEEK_SIZE for length in begun[1:])
        channel.close()

    run(story)


def test_what_was_read_before_comes_first() -> None:
    async def story() -> None:
        channel, peer = pair(initial=message(b"first") + message(b"second")[:5])
        assert bytes(await channel.receive()) == b"first"
        await peer.write(message(b"second")[5:])
        assert bytes(await channel.receive()) == b"second"
        channel.close()

    run(story)


def test_messages_before_the_end_of_the_stream_are_delivered() -> None:
    async def story() -> None:
        channel, peer = pair(TCP)
        await peer.write(message(b"x") * 1000)
        peer.sock.close()
        got = Collected(channel)
        assert (await got.end).reason == CloseReason.BY_PEER
        assert got.messages == [b"x"] * 1000
        await asyncio.sleep(0)
        assert len(got.closed) == 1

    run(story)


def test_one_busy_channel_leaves_turns_for_others() -> None:
    async def story() -> None:
        busy, busy_peer = pair()
        quiet, quiet_peer = pair()
        await busy_peer.write(message(b"busy") * 2000)
        await quiet_peer.write(message(b"quiet"))
        order: list[str] = []
        complete = asyncio.Event()

        def note(name: str) -> None:
            order.append(name)
            if len(order) == 2001:
                complete.set()

        busy.start(lambda _: note("busy"), lambda _: None)
        quiet.start(lambda _: note("quiet"), lambda _: None)
        await complete.wait()
        assert order.index("quiet") < 1000
        busy.close()
        quiet.close()

    run(story)


def test_a_message_stays_what_it_was() -> None:
    async def story() -> None:
        channel, peer = pair()
        await peer.write(message(b"one" * 100))
        kept = await channel.receive()
        await peer.write(message(b"two" * 100))
        await channel.receive()
        assert bytes(kept) == b"one" * 100
        channel.close()

    run(story)


# -- bad input


@pytest.mark.parametrize(
    ("facts", "sent", "words"),
    [
        (TCP, b"\x85\0\0\0", "type 0x85"),
        (TCP, frames.Done(1, 0, 0).pack(), "type 0x84"),
        (TCP, b"\x01\0\0\0", "type 0x01"),
        (FACTS, b"\x01\0\0\0", "type 0x01"),
        (FACTS, b"\x8b\0\0\0", "type 0x8b"),
        (FACTS, b"\x84\xff\xff\xff", "too long"),
        (FACTS, frames.Done(7, 0, 0).pack(), "operation 7"),
        (FACTS, b"\x84\0\0\x01x", "DONE has 1 bytes"),
        (FACTS, frames.PoolReady(0, 1, 1).pack(), "without a POOL"),
        (FACTS, frames.Exposed(9, 0, BufferDescriptor(0, 1, 1)).pack(), "operation 9"),
        (FACTS, b"\x89\0\0\x02xx", "CLOSED has 2 bytes"),
    ],
)
def test_what_does_not_belong_ends_the_channel_with_a_sentence(
    facts: ChannelFacts, sent: bytes, words: str
) -> None:
    async def story() -> None:
        channel, peer = pair(facts)
        got = Collected(channel)
        await peer.write(message(b"good") + sent)
        closed = await got.end
        assert closed.reason == CloseReason.PROTOCOL_ERROR
        assert words in closed.words
        assert got.messages == [b"good"]
        await channel.wait_closed()

    run(story)


@tries(150)
@given(st.binary(max_size=600), st.booleans())
def test_no_bytes_make_a_channel_do_more_than_close(noise: bytes, tcp: bool) -> None:
    async def story() -> None:
        channel, peer = pair(TCP if tcp else FACTS)
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: failures.append(about))
        got = Collected(channel)
        await peer.write(noise)
        peer.sock.close()
        await got.end
        assert channel.closed is not None
        assert not failures

    run(story)


def test_a_message_beyond_the_limit_is_refused_before_it_has_memory() -> None:
    async def story() -> None:
        channel, peer = pair(TCP)
        channel.limit_messages(1000)
        await peer.write(message(b"x" * 1000) + struct.pack(">I", 1001))
        assert len(await channel.receive()) == 1000
        with pytest.raises(ChannelClosed, match="1001 bytes, 1000 are accepted"):
            await channel.receive()

    run(story)


def test_the_end_in_the_middle_of_a_frame_is_a_lost_peer() -> None:
    for cut in (2, 6, LARGE_MESSAGE + 100):

        async def story(cut: int = cut) -> None:
            channel, peer = pair()
            got = Collected(channel)
            await peer.write(message(b"x" * (2 * LARGE_MESSAGE))[:cut])
            peer.sock.close()
            assert (await got.end).reason == CloseReason.PEER_LOST

        run(story)


def test_a_callback_that_fails_ends_its_channel_and_is_reported() -> None:
    async def story() -> None:
        channel, peer = pair()
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: reported.append(about))
        end = asyncio.get_running_loop().create_future()

        def fail(_: memoryview) -> None:
            raise KeyError("session")

        channel.start(fail, end.set_result)
        await peer.write(message(b"x"))
        assert "session" in (await end).words
        assert isinstance(reported[0]["exception"], KeyError)

    run(story)


# -- sending


def test_what_is_sent_inside_a_wake_up_leaves_in_one_call() -> None:
    async def story() -> None:
        channel, sock, peer = counting_pair()
        channel.start(lambda given: channel.send(b"head", given), lambda _: None)
        await peer.write(b"".join(message(b"%02d" % n) for n in range(8)))
        for number in range(8):
            assert await peer.frame() == (0, b"head%02d" % number)
        assert sock.calls == 1
        channel.send(b"at", b"once")
        assert sock.calls == 2
        assert await peer.frame() == (0, b"atonce")
        channel.cork()
        channel.cork()
        channel.send(b"a")
        channel.uncork()
        channel.send(b"b")
        assert sock.calls == 2
        channel.uncork()
        assert sock.calls == 3
        assert await peer.frame() == (0, b"a")
        assert await peer.frame() == (0, b"b")
        channel.close()

    run(story)


def test_what_is_worth_a_call_of_its_own_does_not_wait_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = 32 << 10  # the socket takes it in one piece
    monkeypatch.setattr(outgoing, "GATHER_MAX", small)

    async def story() -> None:
        channel, sock, peer = counting_pair()
        half = b"p" * (small // 2)  # with a header, two are more than a cork holds back
        channel.start(lambda given: channel.send(given, half), lambda _: None)
        await peer.write(b"".join(message(b"%02d" % n) for n in range(8)))
        for number in range(8):
            assert await peer.frame() == (0, b"%02d" % number + half)
        assert sock.calls == 4
        channel.close()

    run(story)


def test_payload_by_rdma_counts_for_a_cork() -> None:
    async def story() -> None:
        channel, sock, peer = counting_pair()
        pool = await attached(channel, peer, GATHER_MAX)
        calls = sock.calls
        piece = pool.allocate(GATHER_MAX)
        descriptor = BufferDescriptor(0, 7, GATHER_MAX).pack()
        channel.cork()
        channel.send(b"little", writes=[RdmaWrite(piece, PAGE, descriptor)])
        assert sock.calls == calls
        channel.send(b"much", writes=[RdmaWrite(piece, GATHER_MAX, descriptor)])
        assert sock.calls == calls + 1
        channel.uncork()
        assert sock.calls == calls + 1
        channel.close()
        pool.close()

    run(story)


def test_more_parts_than_an_iovec_holds() -> None:
    async def story() -> None:
        channel, peer = pair()
        parts = [bytes([n % 256]) * JOIN_BELOW for n in range(600)]
        assert 2 * len(parts) > IOV_MAX
        channel.cork()
        channel.send(*parts)
        channel.send(*parts)
        channel.uncork()
        for _ in range(2):
            assert await peer.frame() == (0, b"".join(parts))
        channel.close()

    run(story)


def test_what_the_socket_does_not_take_waits_and_keeps_its_order() -> None:
    async def story() -> None:
        channel, peer = pair()
        got = Collected(channel)
        bodies = [bytes([n]) * (200_000 + n) for n in range(30)]
        sent: list[int] = []
        for number, body in enumerate(bodies):
            channel.send(body[:100], body[100:], sent=lambda number=number: sent.append(number))
        assert len(sent) < len(bodies)
        drained = asyncio.create_task(channel.drain())
        await asyncio.sleep(0)
        assert not drained.done()
        for body in bodies:
            assert await peer.frame() == (0, body)
        await drained
        assert sent == list(range(30))
        assert channel.statistics().bytes_inline_sent == sum(map(len, bodies))
        assert not got.closed
        channel.close()

    run(story)


def test_drain_returns_below_the_high_water() -> None:
    async def story() -> None:
        channel, peer = pair()
        channel.send(b"x" * (3 * SEND_HIGH_WATER))
        drained = asyncio.create_task(channel.drain())
        await peer.read(3 * SEND_HIGH_WATER - SEND_HIGH_WATER // 2)
        await drained
        channel.close()

    run(story)


def test_a_message_longer_than_the_peer_takes_is_an_error_of_the_caller() -> None:
    async def story() -> None:
        channel, _ = pair(ChannelFacts("rdma", ("", 0), ("", 0), max_fragmented_send_size=100))
        with pytest.raises(ValueError, match="101 bytes: the peer takes 100"):
            channel.send(b"x" * 101)
        channel.close()

    run(story)


# -- pausing


def test_a_paused_channel_neither_reads_nor_delivers() -> None:
    async def story() -> None:
        channel, peer = pair()
        got: list[bytes] = []
        complete = asyncio.Event()

        def take(given: memoryview) -> None:
            got.append(bytes(given))
            if len(got) == 2:
                channel.pause_reading()
            if len(got) == 5:
                complete.set()

        channel.start(take, lambda _: None)
        await peer.write(message(b"x") * 5)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(got) == 2
        channel.resume_reading()
        await complete.wait()
        channel.close()

    run(story)


def test_receive_bounds_what_it_keeps() -> None:
    async def story() -> None:
        channel, peer = pair()
        count = 8 * RECEIVE_QUEUE_MAX
        await peer.write(message(b"0"))
        await channel.receive()
        writing = asyncio.create_task(peer.write(message(b"y" * 1000) * count))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not writing.done()  # the socket is full: nothing was taken out of it
        assert channel.statistics().messages_received <= RECEIVE_QUEUE_MAX + 1
        for _ in range(count):
            assert len(await channel.receive()) == 1000
        await writing
        channel.close()

    run(story)


# -- ends


def test_closed_says_why() -> None:
    async def story() -> None:
        channel, peer = pair()
        got = Collected(channel)
        await peer.write(message(b"last") + frames.Closed(6, "the peer was silent").pack())
        closed = await got.end
        assert (closed.reason, closed.words) == (CloseReason.TIMEOUT, "the peer was silent")
        assert got.messages == [b"last"]

    run(story)


def test_why_is_still_read_when_writing_fails_first() -> None:
    async def story() -> None:
        channel, peer = pair()
        got = Collected(channel)
        await peer.write(frames.Closed(7, "refused there").pack())
        peer.sock.close()
        channel.send(b"too late")
        assert (await got.end).reason == CloseReason.REMOTE_ACCESS

    run(story)


def test_what_was_sent_before_close_still_leaves() -> None:
    async def story() -> None:
        channel, peer = pair()
        body = b"x" * 5_000_000
        channel.send(body)
        channel.close("enough")
        assert await peer.frame() == (0, body)
        await channel.wait_closed()
        with pytest.raises(EOFError):
            await peer.read(1)
        with pytest.raises(ChannelClosed, match="enough"):
            await channel.receive()

    run(story)


def test_a_closed_channel_swallows_what_is_sent() -> None:
    async def story() -> None:
        channel, peer = pair()
        pool = await attached(channel, peer)
        channel.close()
        told: list[Any] = []
        write = RdmaWrite(
            pool.allocate(1), 1, bytes(16), lambda status, moved: told.append((status, moved))
        )
        channel.send(b"x", writes=[write], sent=lambda: told.append("sent"))
        await asyncio.sleep(0)
        assert told == [(Status.ENDED, 0), "sent"]
        with pytest.raises(ChannelClosed):
            await channel.rdma_read(pool.allocate(1), 1, bytes(16))
        pool.close()

    run(story)


def test_closing_waits_for_transfers_since_their_memory_is_the_proxys() -> None:
    async def story() -> None:
        channel, peer = pair()
        pool = await attached(channel, peer, PAGE)
        with pool.allocate(PAGE) as piece:
            reading = channel.rdma_read(piece, PAGE, bytes(16))
        channel.close()
        _, body = await peer.frame()
        operation = frames.Rdma.parse(FrameType.RDMA_READ, memoryview(body)).operation
        with pytest.raises(EOFError):
            await peer.read(1)  # the worker's direction has ended
        assert pool.used == PAGE
        await peer.write(message(b"ignored") + frames.Done(operation, 0, PAGE).pack())
        await channel.wait_closed()
        assert pool.used == 0
        assert await reading == PAGE
        pool.close()

    run(story)


def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smbdirect.channel.CLOSE_LINGER", 0.01)

    async def story() -> None:
        channel, peer = pair()
        channel.send(b"x" * 5_000_000)
        channel.close()
        await channel.wait_closed()
        assert peer.sock.fileno() >= 0

    run(story)


def test_the_end_wakes_everybody() -> None:
    async def story() -> None:
        channel, peer = pair()
        pool = await attached(channel, peer)
        piece = pool.allocate(PAGE)
        other = Pool(PAGE)
        waiting = [
            asyncio.create_task(channel.receive()),
            asyncio.create_task(channel.attach(other)),
            asyncio.create_task(channel.expose(piece, Access.READ)),
            asyncio.ensure_future(channel.rdma_write(piece, 1, bytes(16))),
        ]
        await asyncio.sleep(0)
        peer.sock.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [ChannelClosed] * 4
        await channel.drain()
        piece.release()
        assert pool.used == 0
        pool.close()
        other.close()

    run(story)


# -- processes


def test_a_channel_works_in_a_forked_child() -> None:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        code = 1
        try:
            ours.close()
            asyncio.run(_echo_once(theirs))
            code = 0
        finally:
            os._exit(code)
    theirs.close()

    async def story() -> None:
        channel = Channel(ours, FACTS)
        channel.send(b"are you ", b"there?")
        assert bytes(await channel.receive()) == b"are you there?"
        channel.close()

    run(story)
    assert os.waitpid(child, 0)[1] == 0


async def _echo_once(sock: socket.socket) -> None:
    channel = Channel(sock, FACTS)
    channel.send(await channel.receive())
    channel.close()
    await channel.wait_closed()


@pytest.fixture
def messengers() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for sock in made:
        sock.close()


def test_a_channel_works_after_it_was_passed_twice_by_scm_rights(
    messengers: list[socket.socket],
) -> None:
    async def story() -> None:
        channel, peer = pair()
        await peer.write(message(b"first") + message(b"second")[:3])
        assert bytes(await channel.receive()) == b"first"
        sock, rest = channel.detach()
        for _ in range(2):
            left, right = socket.socketpair()
            messengers.extend((left, right))
            socket.send_fds(left, [rest], [sock.fileno()])
            sock.close()
            rest, descriptors, _, _ = socket.recv_fds(right, 100, 1)
            sock = socket.socket(fileno=descriptors[0])
        moved = Channel(sock, FACTS, initial=rest)
        await peer.write(message(b"second")[3:])
        assert bytes(await moved.receive()) == b"second"
        moved.send(b"answer")
        assert await peer.frame() == (0, b"answer")
        moved.close()

    run(story)


def test_half_of_a_placed_message_is_passed_on_as_a_whole() -> None:
    async def story() -> None:
        channel, peer = pair()
        payload = os.urandom(LARGE_MESSAGE)
        memory = memoryview(bytearray(len(payload)))
        begun = asyncio.Event()

        def place(given: memoryview, length: int) -> memoryview:
            begun.set()
            return memory

        channel.place_messages(place)
        got = Collected(channel)
        await peer.write(message(HEAD + payload)[:1000])
        await begun.wait()
        sock, rest = channel.detach()
        moved = Channel(sock, FACTS, initial=rest)
        await peer.write(message(HEAD + payload)[1000:])
        assert bytes(await moved.receive()) == HEAD + payload
        assert not got.messages
        moved.close()

    run(story)


def test_a_channel_in_the_middle_of_something_is_not_passed_on() -> None:
    async def story() -> None:
        channel, peer = pair()
        channel.send(b"x" * 5_000_000)
        with pytest.raises(RuntimeError, match="in the middle"):
            channel.detach()
        await peer.frame()
        channel.close()

    run(story)


def test_facts_survive_json() -> None:
    assert ChannelFacts.from_json(FACTS.to_json()) == FACTS
    given = {"connection": 4, "local": ["::1", 1], "remote": ["::1", 2], "future": True}
    facts = ChannelFacts.from_json(given)
    assert (facts.transport, facts.connection, facts.local) == ("rdma", 4, ("::1", 1))


def test_facts_of_a_tcp_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            facts = ChannelFacts.of_tcp(accepted)
            assert facts.local == server.getsockname()
            assert facts.remote == client.getsockname()
            assert (facts.transport, facts.role) == ("tcp", "server")
