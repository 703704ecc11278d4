from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from smbdirect.channel_facts import ChannelFacts
from smbserver import client, listener
from smbserver.client.negotiation import offer
from smbserver.config import parse
from smbserver.listener import Listener, transports
from smbserver.wire.header import Command, Header
from smbserver.wire.negotiate import Dialect, NegotiateRequest, NegotiateResponse
from smbserver.wire.smb1 import MultiProtocolNegotiate
from tests.smbserver.in_process import in_loop

FACTS = ChannelFacts("tcp", ("127.0.0.1", 445), ("127.0.0.1", 50000))
GUID = b"0123456789abcdef"


class Routes:
    """Notes what is handed over, instead of starting workers."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[tuple[bytes, socket.socket, bytes]] = asyncio.Queue()
        self.full = self.takes_none = False
        self.fault: Exception | None = None

    def find(self, guid: bytes) -> Any:
        if self.full:
            return None
        if self.fault is not None:
            raise self.fault
        routes = self

        class Worker:
            def hand_over(self, sock: socket.socket, facts: ChannelFacts, initial: bytes) -> bool:
                assert facts is FACTS
                if not routes.takes_none:
                    routes.taken.put_nowait((guid, sock, initial))
                return not routes.takes_none

        return Worker()


class Arrival:
    """A listener, and the client's end of a connection that has just arrived there."""

    def __init__(self, *lines: str) -> None:
        self.routes = Routes()
        self.listener = Listener(parse(["[global]", *lines]), self.routes)  # type: ignore[arg-type]
        self.client = self.another()

    def another(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.listener.admit(theirs, FACTS)
        return ours

    async def dropped(self) -> None:
        """Fails unless the connection is ended by the listener."""
        with contextlib.suppress(ConnectionResetError):  # what was not read makes it a reset
            assert await asyncio.get_running_loop().sock_recv(self.client, 1) == b""
        assert self.routes.taken.empty()
        assert self.listener.refused == 1


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


def negotiate(*dialects: int, guid: bytes = GUID) -> bytes:
    body = NegotiateRequest(dialects, client_guid=guid).pack()
    return framed(Header(command=Command.NEGOTIATE).pack() + body)


@in_loop
async def test_only_the_first_frame_is_read() -> None:
    arrival = Arrival()
    first = negotiate(Dialect.SMB_2_1, Dialect.SMB_3_0)
    for byte in first:
        arrival.client.send(bytes([byte]))
        await asyncio.sleep(0)
    arrival.client.send(b"what follows")
    guid, sock, initial = await arrival.routes.taken.get()
    assert (guid, initial) == (GUID, first)
    assert sock.recv(100) == b"what follows"


@in_loop
async def test_the_client_s_own_negotiate_is_understood() -> None:
    arrival = Arrival()
    options = client.Options()
    arrival.client.send(framed(Header(command=Command.NEGOTIATE).pack() + offer(options).pack()))
    guid, _, _ = await arrival.routes.taken.get()
    assert guid == options.client_guid


@in_loop
async def test_dialect_2_0_2_has_no_guid() -> None:
    arrival = Arrival()
    arrival.client.send(negotiate(Dialect.SMB_2_0_2))
    guid, _, _ = await arrival.routes.taken.get()
    assert guid == bytes(16)


@in_loop
async def test_multi_protocol_negotiate_is_answered_here() -> None:
    arrival = Arrival()
    arrival.client.send(framed(MultiProtocolNegotiate(("SMB 2.002", "SMB 2.???")).pack()))
    loop = asyncio.get_running_loop()
    answer = await loop.sock_recv(arrival.client, 4096)
    response = NegotiateResponse.parse(memoryview(answer)[4:])
    assert response.dialect_revision == Dialect.WILDCARD
    second = negotiate(Dialect.SMB_2_1)
    arrival.client.send(second)
    guid, _, initial = await arrival.routes.taken.get()
    assert (guid, initial) == (GUID, second)


@pytest.mark.parametrize(
    ("lines", "dialects"),
    [((), ("SMB 2.002",)), (("server max protocol = SMB2_02",), ("SMB 2.002", "SMB 2.???"))],
)
@in_loop
async def test_multi_protocol_negotiate_for_2_0_2_goes_to_a_worker(
    lines: tuple[str, ...], dialects: tuple[str, ...]
) -> None:
    arrival = Arrival(*lines)
    first = framed(MultiProtocolNegotiate(dialects).pack())
    arrival.client.send(first)
    guid, _, initial = await arrival.routes.taken.get()
    assert (guid, initial) == (bytes(16), first)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x81\0\0\0",
        b"\0\0\0\x10" + bytes(16),
        (listener.MAX_FIRST_FRAME + 1).to_bytes(4, "big"),
        framed(bytes(100)),
        framed(b"\xffSMB" + bytes(60)),
        framed(MultiProtocolNegotiate(("NT LM 0.12",)).pack()),
        framed(Header(command=Command.ECHO).pack() + b"\4\0\0\0"),
        framed(Header(command=Command.NEGOTIATE).pack() + b"short"),
    ],
)
@in_loop
async def test_dropped(sent: bytes) -> None:
    arrival = Arrival()
    arrival.client.send(sent)
    await arrival.dropped()


@in_loop
async def test_half_a_frame_and_the_end() -> None:
    arrival = Arrival()
    arrival.client.send(negotiate(Dialect.SMB_2_1)[:50])
    arrival.client.shutdown(socket.SHUT_WR)
    await arrival.dropped()


@in_loop
async def test_silence_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "FIRST_FRAME_DEADLINE", 0.01)
    await Arrival().dropped()


@in_loop
async def test_the_oldest_unknown_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_UNKNOWN", 3)
    arrival = Arrival()
    await asyncio.sleep(0)
    others = [arrival.another() for _ in range(3)]
    await arrival.dropped()
    others[0].send(negotiate(Dialect.SMB_2_1))
    await arrival.routes.taken.get()


@in_loop
async def test_no_worker_left() -> None:
    arrival = Arrival()
    arrival.routes.full = True
    arrival.client.send(negotiate(Dialect.SMB_2_1))
    await arrival.dropped()


@in_loop
async def test_a_worker_that_takes_nobody() -> None:
    arrival = Arrival()
    arrival.routes.takes_none = True
    arrival.client.send(negotiate(Dialect.SMB_2_1))
    await arrival.dropped()


@in_loop
async def test_a_fault_of_ours_costs_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    arrival = Arrival()
    arrival.routes.fault = LookupError("as if something were wrong")
    arrival.client.send(negotiate(Dialect.SMB_2_1))
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.get_running_loop().sock_recv(arrival.client, 1) == b""
    assert (arrival.listener.refused, arrival.listener.failed) == (0, 1)
    (line,) = (record.getMessage() for record in caplog.records)
    assert "127.0.0.1:50000 was dropped: LookupError: as if" in line
    arrival.routes.fault = None
    other = arrival.another()
    other.send(negotiate(Dialect.SMB_2_1))
    await arrival.routes.taken.get()


@in_loop
async def test_who_accepts_goes_on_after_an_address_that_is_none() -> None:
    arrival = Arrival()
    ours, theirs = socket.socketpair()
    arrival.listener.admit(theirs, ChannelFacts("rdma", ("", 0), ("fe80::zz", 1)))
    assert ours.recv(1) == b""
    assert arrival.listener.failed == 1


@in_loop
async def test_a_fault_while_accepting_costs_one_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routes = Routes()
    made = Listener(parse([]), routes)  # type: ignore[arg-type]
    made.listen([("127.0.0.1", 0)])
    loop = asyncio.get_running_loop()
    port = made.sockets[0].getsockname()[1]
    with monkeypatch.context() as patch:
        patch.setattr(listener, "_tune", lambda sock: {}["as if something were wrong"])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setblocking(False)
            assert await loop.sock_recv(sock, 1) == b""
    assert made.failed == 1
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setblocking(False)
        sock.send(framed(bytes(100)))
        assert await loop.sock_recv(sock, 1) == b""
    assert (made.failed, made.refused) == (1, 1)
    await made.close()


def test_transports() -> None:
    config = parse(["[global]", "server smb transports = tcp, TCP:4450, smbdirect-iw:1, 139, x:1"])
    assert transports(config) == [("tcp", 445), ("tcp", 4450), ("smbdirect-iw", 1), ("tcp", 139)]


@in_loop
async def test_addresses_that_cannot_be_used() -> None:
    made = Listener(parse([]), Routes())  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()
        with pytest.raises(OSError, match="in use"):
            made.listen([taken])
        made.listen([taken, ("127.0.0.1", 0)])
        assert len(made.sockets) == 1
    await made.close()
