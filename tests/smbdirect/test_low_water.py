"""A channel over TCP is not woken for every piece of a large message, and for each small one."""

from __future__ import annotations

import asyncio
import os
import select
import socket

import pytest

from smbdirect.channel import Channel
from smbdirect.incoming import PEEK_SIZE
from smbdirect.low_water import LOW_WATER_MAX, LowWater
from tests.smbdirect.far_end import FACTS, TCP, Collected, Peer, message, run


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
        return near, far


def low_water_of(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


def is_readable(sock: socket.socket, patience: float = 0) -> bool:
    return bool(select.select([sock], [], [], patience)[0])


def test_a_socket_is_readable_from_so_many_bytes_on() -> None:
    near, far = tcp_pair()
    with near, far:
        low_water = LowWater(near)
        low_water.set(1000)
        far.sendall(b"x" * 999)
        near.recv(1, socket.MSG_PEEK)
        assert not is_readable(near)
        far.sendall(b"x")
        assert is_readable(near, 10)
        low_water.set(1 << 30)
        assert low_water_of(near) <= LOW_WATER_MAX
        assert not is_readable(near)
        low_water.set(1)
        assert is_readable(near)


def test_the_end_of_the_stream_wakes_before() -> None:
    near, far = tcp_pair()
    with near:
        LowWater(near).set(1000)
        far.sendall(b"x")
        far.close()
        assert is_readable(near, 10)


def test_unix_sockets_are_left_alone() -> None:
    near, far = socket.socketpair()
    with near, far:
        LowWater(near).set(1000)
        assert low_water_of(near) == 1


@pytest.mark.parametrize("length", [300_000, 5_000_000])
def test_small_messages_between_large_ones_wake_at_once(length: int) -> None:
    async def story() -> None:
        near, far = tcp_pair()
        channel, peer = Channel(near, TCP), Peer(far)
        got = Collected(channel)
        large = os.urandom(length)
        for count in (1, 3):
            # In pieces, so that the channel has to wait for the rest.
            await peer.write(message(large)[:250_000])
            while low_water_of(near) == 1:
                await asyncio.sleep(0)
            await peer.write(message(large)[250_000:])
            await got.count(count)
            assert low_water_of(near) == 1
            await peer.write(message(b"small"))
            await got.count(count + 1)
        assert got.messages == [large, b"small"] * 2
        channel.close()
        await channel.wait_closed()
        far.close()

    run(story)


def test_a_trickling_peer_is_served_byte_by_byte_at_the_end() -> None:
    async def story() -> None:
        near, far = tcp_pair()
        channel, peer = Channel(near, TCP), Peer(far)
        got = Collected(channel)
        stream = message(b"x" * 100_000)
        await peer.write(stream[:-5])
        for byte in stream[-5:]:
            assert not got.messages
            await peer.write(bytes([byte]))
            await asyncio.sleep(0)
        await got.count(1)
        channel.close()
        far.close()

    run(story)


def test_a_socket_that_is_passed_on_wakes_as_usual() -> None:
    async def story() -> None:
        near, far = tcp_pair()
        channel, peer = Channel(near, TCP), Peer(far)
        Collected(channel)
        await peer.write(message(b"x" * 100_000)[: PEEK_SIZE + 1000])
        while low_water_of(near) == 1:
            await asyncio.sleep(0)
        sock, rest = channel.detach()
        assert low_water_of(sock) == 1
        moved = Channel(sock, FACTS, initial=rest)
        await peer.write(message(b"x" * 100_000)[PEEK_SIZE + 1000 :])
        assert bytes(await moved.receive()) == b"x" * 100_000
        moved.close()
        far.close()

    run(story)
