"""Captures: packets that are made of messages, and the stream that they are sent on."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from rdmaproxy import packets, pcapng
from rdmaproxy.packets import INVALIDATES, RECORD, SENT, Packets
from smbdirect.control import Proxy, ProxyError
from tests.interop.iwarp_frames import Opcode, ddp_segments, sends
from tests.rdmaproxy.running import Daemon, channels, run, running, until

MIB = 1 << 20
V4 = socket.inet_pton(socket.AF_INET, "10.0.0.1"), socket.inet_pton(socket.AF_INET, "10.0.0.2")
V6 = socket.inet_pton(socket.AF_INET6, "fd00::1"), socket.inet_pton(socket.AF_INET6, "fd00::2")
REQUEST, RESPONSE = bytes(range(20)), bytes(range(32))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as found:
        yield found


def record(message: bytes, flags: int = 0, token: int = 0, *, v6: bool = False) -> bytes:
    """Of a connection from the peer's port 40000 to port 5445 here."""
    family, (local, remote) = (socket.AF_INET6, V6) if v6 else (socket.AF_INET, V4)
    head = (1 << 60, 77, len(message), token, flags, family, 5445, 40000, local, remote)
    return RECORD.pack(*head) + message


def blocks(file: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block of a pcapng file."""
    while file:
        kind, length = struct.unpack_from("<II", file)
        assert length % 4 == 0
        assert struct.unpack_from("<I", file, length - 4) == (length,)
        yield kind, file[8 : length - 4]
        file = file[length:]


def streams(made: list[bytes]) -> dict[int, bytes]:
    """What each port says in TCP, which must be without a gap."""
    said: dict[int, bytes] = {}
    for kind, body in blocks(b"".join(made)):
        assert kind == pcapng.ENHANCED_PACKET
        _, high, low, length, whole = struct.unpack_from("<IIIII", body)
        assert (high << 32 | low, length) == (1 << 60, whole)
        ip = body[20 : 20 + length]
        if ip[0] >> 4 == 4:
            assert struct.unpack_from(">H", ip, 2) == (length,)
            assert {ip[12:16], ip[16:20]} == set(V4)
            tcp = ip[20:]
        else:
            assert struct.unpack_from(">H", ip, 4) == (length - 40,)
            assert {ip[8:24], ip[24:40]} == set(V6)
            tcp = ip[40:]
        port, _, sequence, _ = struct.unpack_from(">HHII", tcp)
        before = said.setdefault(port, b"")
        assert sequence == 1 + len(before)
        said[port] = before + tcp[20:]
    return said


@pytest.mark.parametrize("v6", [False, True])
def test_messages_become_packets_of_iwarp(v6: bool) -> None:
    records = (
        record(REQUEST, v6=v6)
        + record(RESPONSE, SENT, v6=v6)
        + record(b"odd", v6=v6)
        + record(b"answer", SENT | INVALIDATES, 0xABCD, v6=v6)
    )
    said = streams(list(Packets().of(records)))
    assert list(sends(said[40000])) == [REQUEST, b"odd"]
    assert list(sends(said[5445])) == [RESPONSE, b"answer"]
    last = list(ddp_segments(said[5445]))[-1]
    assert (last.opcode, last.token) == (Opcode.SEND_INVALIDATE, 0xABCD)
    assert said[40000].startswith(packets._MPA_REQUEST)
    assert said[5445].startswith(packets._MPA_REPLY)


def test_who_made_a_connection_that_began_before_has_the_higher_port() -> None:
    said = streams(list(Packets().of(record(b"in the middle of something", SENT))))
    assert said[40000].startswith(packets._MPA_REQUEST)


def test_a_file_begins_with_a_section_and_an_interface() -> None:
    (section, body), (interface, about) = blocks(pcapng.beginning())
    assert (section, interface) == (pcapng.SECTION_HEADER, pcapng.INTERFACE_DESCRIPTION)
    assert struct.unpack_from("<I", body) == (pcapng.BYTE_ORDER,)
    assert struct.unpack_from("<H", about) == (pcapng.LINKTYPE_RAW,)


def test_one_at_a_time_and_again_when_it_has_ended(daemon: Daemon) -> None:
    async def story() -> None:
        first, second = await Proxy.open(daemon.control), await Proxy.open(daemon.control)
        stream = await first.capture()
        with pytest.raises(ProxyError) as caught:
            await second.capture()
        assert caught.value.code == "EBUSY"
        stream.close()

        async def again() -> bool:
            try:
                (await second.capture()).close()
            except ProxyError:
                return False
            return True

        await until(again)
        await until(again)
        kept = await until_captured(first)
        await first.close()  # its capture ends with it, whoever holds the stream
        await until(again)
        kept.close()
        await second.close()

    async def until_captured(proxy: Proxy) -> socket.socket:
        while True:
            try:
                return await proxy.capture()
            except ProxyError:
                await asyncio.sleep(0.02)

    run(story)


def test_who_does_not_read_loses_packets_and_costs_a_bounded_amount(daemon: Daemon) -> None:
    async def story() -> None:
        proxy = await Proxy.open(daemon.control)
        memory, ended = daemon.memory(), daemon.log.count("event=capture_ended")
        stream = await proxy.capture()
        client, server = await channels(proxy)
        body = bytes(MIB)
        for _ in range(200):
            client.send(body)
            assert len(await server.receive()) == MIB
        assert daemon.memory() < memory + 160 * MIB
        stream.close()
        client.close()
        await client.wait_closed()

        async def told() -> bool:
            return daemon.log.count("event=capture_ended") > ended

        await until(told)
        end = daemon.log.rpartition("event=capture_ended")[2]
        assert "messages_lost=0 packets_dropped=0" not in end
        await proxy.close()

    run(story)
