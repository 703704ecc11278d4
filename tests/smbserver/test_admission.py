"""Whatever fails while a connection is taken in costs that connection at once, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from smbdirect.channel import Channel, ChannelClosed
from smbdirect.channel_facts import ChannelFacts
from smbdirect.incoming import Incoming
from smbserver import admission, client, passing
from smbserver.connection import Connection
from smbserver.handover import Link
from smbserver.service import Service
from smbserver.wire.header import Command, Header
from smbserver.wire.negotiate import Dialect, NegotiateRequest
from smbserver.worker import Worker
from tests.smbserver.in_process import InProcess, configuration, in_loop, serving

FACTS = ChannelFacts("tcp", ("127.0.0.1", 445), ("192.0.2.7", 50000))


class Listener:
    """The listener's end of a worker that runs in this loop."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.service = Service(configuration(folder))
        self.worker = Worker(self.service, lambda: None)
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.link = Link(ours, lambda packet, *_: self.said.put_nowait(packet), lambda: None)
        self._task = asyncio.ensure_future(self.worker.run(theirs))

    def hand_over(self, facts: Any) -> socket.socket:
        """The client's end of a connection that the worker is given."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.link.send({"op": "connection", "facts": facts}, b"", theirs)
        return ours

    async def negotiates(self) -> None:
        facts = ChannelFacts("tcp", FACTS.remote, FACTS.local, role="client")
        channel = Channel(self.hand_over(FACTS.to_json()), facts)
        connection = client.Connection(channel, client.Options())
        await connection.negotiate()
        channel.close()
        await channel.wait_closed()

    async def close(self) -> None:
        self.worker.stop()
        await self._task
        self.link.close()


@contextlib.asynccontextmanager
async def worker(folder: Path) -> AsyncIterator[Listener]:
    listener = Listener(folder)
    try:
        yield listener
    finally:
        await listener.close()


async def ended(client: socket.socket) -> None:
    """Returns when the client is told of the end of its connection."""
    with client, contextlib.suppress(ConnectionResetError):
        assert await asyncio.get_running_loop().sock_recv(client, 1) == b""


def raising(*_: Any, **__: Any) -> None:
    raise LookupError("as if\nsomething were wrong")


@contextlib.contextmanager
def one_line(caplog: pytest.LogCaptureFixture, *words: str) -> Iterator[None]:
    """Fails unless there is one line in the log, with these words."""
    caplog.clear()
    yield
    (record,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
    text = record.getMessage()
    assert record.exc_info is None
    assert "\n" not in text
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("Channel", ("192.0.2.7:50000", "LookupError: as if something", "test_admission.py")),
        ("Connection", ("192.0.2.7:50000", "LookupError")),
    ],
)
@in_loop
async def test_what_raises_before_there_is_a_connection(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
    words: tuple[str, ...],
) -> None:
    async with worker(tmp_path) as listener:
        with one_line(caplog, *words), monkeypatch.context() as patch:
            patch.setattr(admission, broken, raising)
            await ended(listener.hand_over(FACTS.to_json()))
        assert listener.service.counters["connections_not_admitted"] == 1
        await listener.negotiates()


@pytest.mark.parametrize("broken", [(Connection, "start"), (Channel, "start"), (Incoming, "read")])
@in_loop
async def test_what_raises_when_it_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: tuple[type, str],
) -> None:
    async with worker(tmp_path) as listener:
        with one_line(caplog, "LookupError"), monkeypatch.context() as patch:
            patch.setattr(*broken, raising)
            await ended(listener.hand_over(FACTS.to_json()))
        assert not listener.service.connections
        await listener.negotiates()


@in_loop
async def test_facts_that_nobody_understands(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(tmp_path) as listener:
        with one_line(caplog, "a connection was dropped", "KeyError"):
            await ended(listener.hand_over({"transport": "tcp"}))
        await listener.negotiates()


@in_loop
async def test_no_descriptor_is_left_for_the_socket(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel delivers the packet without it."""
    async with worker(tmp_path) as listener:
        with one_line(caplog, "192.0.2.7:50000", "RLIMIT_NOFILE"):
            listener.link.send({"op": "connection", "facts": FACTS.to_json()})
            while not listener.service.counters["connections_not_admitted"]:
                await asyncio.sleep(0)
        await listener.negotiates()


@in_loop
async def test_a_worker_whose_only_client_could_not_be_admitted_is_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smbserver.worker.IDLE_LINGER", 0.0)
    async with worker(tmp_path) as listener:
        await ended(listener.hand_over({}))
        assert await listener.said.get() == {"op": "idle", "served": 1}


# From the first message on


async def negotiate(running: InProcess) -> socket.socket:
    """A client that has asked, and waits for the answer."""
    sock = running.attach()
    sock.setblocking(False)
    request = NegotiateRequest((Dialect.SMB_3_0,), client_guid=b"0123456789abcdef")
    message = Header(command=Command.NEGOTIATE).pack() + request.pack()
    sock.send(len(message).to_bytes(4, "big") + message)
    return sock


@in_loop
async def test_an_answer_that_cannot_be_sent_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as running:
        with one_line(caplog, "LookupError"), monkeypatch.context() as patch:
            patch.setattr(Connection, "respond", raising)
            await ended(await negotiate(running))
        assert running.service.counters["internal_errors"] == 1
        await running.session()


@in_loop
async def test_so_does_one_that_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        file = await (await session.tree("share")).create("file")
        with one_line(caplog, "LookupError"), monkeypatch.context() as patch:
            patch.setattr(Connection, "_pack", raising)
            with pytest.raises(ChannelClosed):
                await file.flush()
        assert running.service.counters["internal_errors"] == 1
        await running.session()


@in_loop
async def test_a_connection_that_cannot_be_passed_on_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(passing, "is_elsewhere", lambda *_: True)
    async with serving(tmp_path) as running:
        session = await running.session()
        with one_line(caplog, "LookupError"), monkeypatch.context() as patch:
            patch.setattr(Channel, "detach", raising)
            with pytest.raises(ChannelClosed):
                await session.bind(await running.connection(session.options))
        assert running.service.counters["internal_errors"] == 1


@in_loop
async def test_a_connection_that_was_passed_on_and_cannot_be_served_ends(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        packet = {"facts": FACTS.to_json(), "negotiated": {"dialect": 7}}
        passing.take_over(running.service, running.dispatcher, packet, b"", theirs)
        await ended(ours)
        assert running.service.counters["connections_not_admitted"] == 1
