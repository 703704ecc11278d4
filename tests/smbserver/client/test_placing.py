"""READ data that is received straight into the range that awaits it, and when it is not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from smbdirect.channel_end import ChannelClosed
from smbdirect.pool import Pool, PoolRange
from smbserver.client.connection import Connection, InFlight, Protection, Request
from smbserver.signing import HmacSha256Signer
from smbserver.wire.header import SIGNATURE_OFFSET, Command, Header, HeaderFlags
from smbserver.wire.read import DATA_OFFSET, ReadResponse
from smbserver.wire.status import NtStatus
from tests.smbserver.client.peer import Peer, negotiated

DATA = os.urandom(1 << 20)
SIGNER = HmacSha256Signer(b"k" * 16)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(2 << 20)
    yield pool
    assert pool.used == 0
    pool.close()


async def asked(
    connection: Connection, peer: Peer, piece: PoolRange | None, *protection: Protection
) -> tuple[InFlight, Header]:
    """A READ whose response the test makes; its body does not matter here."""
    request = Request(Header(command=Command.READ), (bytes(49),), into=piece)
    (sent,) = await connection.send([request], *protection)
    return sent, await peer.request()


def data_of(sent: InFlight, message: memoryview) -> bytes:
    if not sent.placed:
        return bytes(ReadResponse.parse(message).data)
    assert len(message) == DATA_OFFSET
    assert sent.into is not None
    return bytes(sent.into.view[: sent.placed])


@pytest.mark.parametrize("length", [1, 70_000, 300_000, 1 << 20])
def test_data_arrives_whatever_its_length(pool: Pool, length: int) -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            with pool.allocate(1 << 20) as piece:
                for _ in range(2):
                    sent, header = await asked(connection, peer, piece)
                    peer.send(peer.answer(header, ReadResponse(DATA[:length]).pack()))
                    assert data_of(sent, (await sent.answer).message) == DATA[:length]
                assert bool(sent.placed) == (length > 200_000)

    run(work())


def signed(message: bytes) -> bytes:
    return message[:SIGNATURE_OFFSET] + SIGNER.sign([message]) + message[64:]


def plain_answer(header: Header) -> bytes:
    return Peer.answer(header, ReadResponse(DATA).pack())


def signed_answer(header: Header) -> bytes:
    flags = HeaderFlags.SERVER_TO_REDIR | HeaderFlags.SIGNED
    return signed(Peer.answer(header, ReadResponse(DATA).pack(), flags=flags))


def compound_answer(header: Header) -> bytes:
    first = Peer.answer(header, ReadResponse(DATA).pack(), next_command=DATA_OFFSET + len(DATA))
    return first + Peer.answer(Header(command=Command.ECHO, message_id=99))


def failed_answer(header: Header) -> bytes:
    return Peer.answer(header, ReadResponse(DATA).pack(), status=NtStatus.BUFFER_OVERFLOW)


def other_command(header: Header) -> bytes:
    return Peer.answer(header, ReadResponse(DATA).pack(), command=Command.WRITE)


def data_elsewhere(header: Header) -> bytes:
    body = bytearray(ReadResponse(DATA[:-8]).pack_fixed())
    body[2] += 8
    return Peer.answer(header, bytes(body) + bytes(8) + DATA[:-8])


@pytest.mark.parametrize(
    ("answer", "protection", "room"),
    [
        (signed_answer, (), 1 << 20),
        (signed_answer, (Protection(SIGNER),), 1 << 20),
        (compound_answer, (), 1 << 20),
        (failed_answer, (), 1 << 20),
        (other_command, (), 1 << 20),
        (data_elsewhere, (), 1 << 20),
        (plain_answer, (), (1 << 20) - 1),
        (plain_answer, (), 0),
    ],
)
def test_everything_else_comes_in_its_message(
    pool: Pool,
    answer: Callable[[Header], bytes],
    protection: tuple[Protection, ...],
    room: int,
) -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            piece = pool.allocate(room) if room else None
            sent, header = await asked(connection, peer, piece, *protection)
            peer.send(answer(header))
            response = await sent.answer
            assert not sent.placed
            assert data_of(sent, response.message) in (DATA, DATA[:-8])
            if piece is not None:
                assert not any(piece.view)
                piece.release()

    run(work())


def begin(peer: Peer, header: Header) -> tuple[bytes, bytes]:
    """The response as two pieces of the stream."""
    message = plain_answer(header)
    stream = len(message).to_bytes(4) + message
    return stream[:500_000], stream[500_000:]


async def write(peer: Peer, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(peer.channel._sock, data)


async def placing(connection: Connection) -> None:
    while connection._placing is None:
        await asyncio.sleep(0)


def test_a_range_that_was_given_back_stays_taken_until_the_data_is_in(pool: Pool) -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            piece = pool.allocate(1 << 20)
            sent, header = await asked(connection, peer, piece)
            first, second = begin(peer, header)
            await write(peer, first)
            await placing(connection)
            sent.answer.cancel()
            piece.release()
            assert pool.used == 1 << 20
            await write(peer, second)
            other, header = await asked(connection, peer, None)
            peer.send(peer.answer(header, ReadResponse(b"x").pack()))
            await other.answer
            assert pool.used == 0

    run(work())


def test_the_answer_to_a_cancelled_read_is_not_placed(pool: Pool) -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            piece = pool.allocate(1 << 20)
            sent, header = await asked(connection, peer, piece)
            sent.answer.cancel()
            piece.release()
            peer.send(plain_answer(header))
            other, header = await asked(connection, peer, None)
            peer.send(peer.answer(header, ReadResponse(b"x").pack()))
            await other.answer
            assert not sent.placed

    run(work())


@pytest.mark.parametrize("whose", ["peer's", "own"])
def test_the_end_of_the_connection_gives_the_range_back(pool: Pool, whose: str) -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            piece = pool.allocate(1 << 20)
            sent, header = await asked(connection, peer, piece)
            first, _ = begin(peer, header)
            await write(peer, first)
            await placing(connection)
            if whose == "own":
                await connection.close("enough")
            else:
                peer.channel.close()
            with pytest.raises(ChannelClosed):
                await sent.answer
            piece.release()
            await connection.channel.wait_closed()
            await asyncio.sleep(0)
            assert pool.used == 0

    run(work())
