from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from smbserver import handover
from smbserver.handover import Link
from tests.smbserver.in_process import in_loop


class Pair:
    """Two linked ends; what the second receives is noted."""

    def __init__(self) -> None:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.packets: asyncio.Queue[tuple[Any, bytes, socket.socket | None]] = asyncio.Queue()
        self.ended = asyncio.get_running_loop().create_future()
        self.first = Link(one, lambda *_: None, lambda: None)
        self.second = Link(
            other, lambda *packet: self.packets.put_nowait(packet), lambda: self.ended.set_result(1)
        )


@in_loop
async def test_packet_bytes_and_descriptor() -> None:
    pair = Pair()
    ours, theirs = socket.socketpair()
    pair.first.send({"op": "connection"}, b"\n\0raw", theirs)
    packet, raw, passed = await pair.packets.get()
    assert (packet, raw) == ({"op": "connection"}, b"\n\0raw")
    assert theirs.fileno() == -1, "closed here as soon as it is on its way"
    assert passed is not None
    ours.send(b"hello")
    assert passed.recv(5) == b"hello"
    passed.close()


@in_loop
async def test_packets_wait_for_a_slow_reader() -> None:
    pair = Pair()
    for number in range(500):
        pair.first.send({"n": number}, bytes(10000))
    found = [(await pair.packets.get())[0]["n"] for _ in range(500)]
    assert found == list(range(500))


@in_loop
async def test_the_end() -> None:
    pair = Pair()
    pair.first.close()
    await pair.ended
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    pair.second.send({}, b"", theirs)
    ours.close()
    assert len(os.listdir("/proc/self/fd")) == before, "the passed socket is closed all the same"


@in_loop
async def test_too_much_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    pair.first.send({}, bytes(handover.MAX_PACKET))
    monkeypatch.setattr(handover, "MAX_QUEUED", 0)
    pair.first.send({"n": 1})
    monkeypatch.undo()
    pair.first.send({"n": 2})
    assert (await pair.packets.get())[0] == {"n": 2}
