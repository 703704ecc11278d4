"""Our parsers read a session between two Linux kernels: cifs.ko and ksmbd over siw (iWARP).

The recording holds MPA connection setup, SMB Direct negotiation, a mount, files of 17 bytes, 64 KiB and
2 MiB written and read, a listing, a delete and an unmount. The files' bytes were zeroed, nothing else was.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smbdirect import pdu
from smbdirect.fragments import Incoming
from smbserver.wire.errors import ErrorResponse
from smbserver.wire.header import Command, Header, split_compound
from smbserver.wire.status import NtStatus
from tests.interop import iwarp_frames, pcap
from tests.interop.iwarp_frames import Opcode

RECORDING = Path(__file__).parent.parent / "data" / "siw.pcap.gz"
FRAGMENTED_MAX = 1 << 20
NOT_ERRORS = {
    NtStatus.SUCCESS,
    NtStatus.MORE_PROCESSING_REQUIRED,
    NtStatus.BUFFER_OVERFLOW,
}


@dataclass(frozen=True, slots=True)
class Direction:
    """One end's messages."""

    stream: bytearray
    first: bytes
    """SMB Direct's negotiation message."""
    transfers: list[pdu.DataTransfer]
    messages: list[memoryview]
    """SMB2 messages, one by one, compounds split."""


def direction(stream: bytearray) -> Direction:
    first, *rest = iwarp_frames.sends(stream)
    transfers = [pdu.DataTransfer.parse(each) for each in rest]
    incoming = Incoming(FRAGMENTED_MAX)
    whole = [
        message
        for transfer in transfers
        if transfer.payload and (message := incoming.add(transfer)) is not None
    ]
    return Direction(
        stream, first, transfers, [part for message in whole for part in split_compound(message)]
    )


@pytest.fixture(scope="module")
def client() -> Direction:
    return direction(pcap.streams(RECORDING)[0].data)


@pytest.fixture(scope="module")
def server() -> Direction:
    return direction(pcap.streams(RECORDING)[1].data)


def test_private_data_of_both_ends_is_read_whatever_its_order(
    client: Direction, server: Direction
) -> None:
    for end in (client, server):
        data, _ = iwarp_frames.private_data(end.stream)
        depths = pdu.PrivateData.parse(data)
        assert 0 < depths.ird <= 255
        assert 0 <= depths.ord <= 255


def test_negotiation(client: Direction, server: Direction) -> None:
    request = pdu.NegotiateRequest.parse(client.first)
    response = pdu.NegotiateResponse.parse(server.first)
    assert (request.min_version, request.max_version) == (pdu.VERSION, pdu.VERSION)
    assert response.status == pdu.STATUS_SUCCESS
    assert response.max_receive_size >= pdu.RECEIVE_SIZE_MIN
    assert response.max_fragmented_size >= pdu.FRAGMENTED_SIZE_MIN
    assert request.pack() == client.first
    assert response.pack() == server.first


def test_credits_add_up(client: Direction, server: Direction) -> None:
    """Nobody sends more messages than the other has granted."""
    granted = pdu.NegotiateResponse.parse(server.first).credits_granted
    granted += sum(each.credits_granted for each in server.transfers)
    assert len(client.transfers) <= granted
    assert len(server.transfers) <= sum(each.credits_granted for each in client.transfers)


def test_every_smb2_message_is_read(client: Direction, server: Direction) -> None:
    requests = Counter(parse(message)[0].command for message in client.messages)
    responses = Counter(parse(message)[0].command for message in server.messages)
    assert sum(requests.values()) >= 60
    assert requests == responses
    for command in (Command.NEGOTIATE, Command.SESSION_SETUP, Command.READ, Command.WRITE):
        assert requests[command] > 0


def test_what_was_read_is_packed_again(client: Direction) -> None:
    """Requests of fixed layout come out as they went in; padding at the end aside."""
    for message in client.messages:
        header, body = parse(message)
        assert header.pack() == bytes(message[:64])
        if header.command in (Command.CLOSE, Command.READ, Command.TREE_DISCONNECT, Command.ECHO):
            packed = body.pack()
            assert packed == bytes(message[64 : 64 + len(packed)])


def test_tokens_of_requests_are_those_that_rdma_used(client: Direction, server: Direction) -> None:
    """The server touches only what requests have named, and invalidates all of it (at the end of a
    file there is nothing to write, and still the token comes back)."""
    named = {
        descriptor.token
        for body in bodies(client, Command.READ, Command.WRITE)
        if body.channel
        for descriptor in pdu.BufferDescriptor.parse_all(body.channel_info)
    }
    segments = list(iwarp_frames.ddp_segments(server.stream))
    written = {each.token for each in segments if each.opcode is Opcode.WRITE}
    invalidated = {each.token for each in segments if each.opcode is Opcode.SEND_INVALIDATE}
    fetched = {
        iwarp_frames.READ_REQUEST.unpack(each.payload)[3]
        for each in segments
        if each.opcode is Opcode.READ_REQUEST
    }
    assert written
    assert fetched
    assert written | fetched <= named
    assert invalidated == named


def bodies(end: Direction, *commands: Command) -> Iterator[Any]:
    for message in end.messages:
        header, body = parse(message)
        if header.command in commands:
            yield body


def parse(message: memoryview) -> tuple[Header, Any]:
    """Header and body; an error response has a body of its own."""
    header = Header.parse(message)
    if header.is_response and header.status not in NOT_ERRORS:
        return header, ErrorResponse.parse(message)
    name = Command(header.command).name
    module = importlib.import_module(f"smbserver.wire.{name.lower()}")
    kind = "Response" if header.is_response else "Request"
    message_class = getattr(module, name.title().replace("_", "") + kind)
    return header, message_class.parse(message)
