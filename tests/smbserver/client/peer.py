"""A server made by hand: the other end of a client's connection, message by message."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from smbdirect.channel import Channel
from smbdirect.channel_facts import ChannelFacts
from smbserver.client.connection import Connection
from smbserver.client.options import Options
from smbserver.wire.bounds import Buffer
from smbserver.wire.header import Command, Header, HeaderFlags, split_compound
from smbserver.wire.negotiate import Capabilities, Dialect, NegotiateResponse
from smbserver.wire.negotiate_contexts import PreauthIntegrityCapabilities


class Peer:
    """Reads requests as the client sent them, and answers what a test wants."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def requests(self) -> list[tuple[Header, memoryview]]:
        """The messages of the next frame."""
        message = await self.channel.receive()
        return [(Header.parse(part), part) for part in split_compound(message)]

    async def request(self) -> Header:
        """The header of the next frame, which is one message."""
        ((header, _),) = await self.requests()
        return header

    @staticmethod
    def answer(request: Header, body: bytes = b"\x04\0\0\0", **header: int) -> bytes:
        """A response; header fields that differ from the usual can be given."""
        fields = {
            "command": request.command,
            "message_id": request.message_id,
            "session_id": request.session_id,
            "tree_id": request.tree_id,
            "credits": 10,
            "flags": HeaderFlags.SERVER_TO_REDIR.value,
            **header,
        }
        return Header(**fields).pack() + body

    def send(self, *parts: Buffer) -> None:
        self.channel.send(*parts)


def negotiate_response(dialect: int = Dialect.SMB_3_1_1, **fields: object) -> NegotiateResponse:
    contexts = (PreauthIntegrityCapabilities(),) if dialect == Dialect.SMB_3_1_1 else ()
    given = {"capabilities": Capabilities.LARGE_MTU, "negotiate_contexts": contexts, **fields}
    return NegotiateResponse(dialect, **given)


@asynccontextmanager
async def ends(options: Options | None = None) -> AsyncIterator[tuple[Connection, Peer]]:
    """A client's connection, not negotiated, and its peer."""
    near, far = socket.socketpair()
    facts = ChannelFacts("tcp", ("client", 0), ("server", 0))
    connection = Connection(Channel(near, facts), options or Options())
    peer = Peer(Channel(far, facts))
    try:
        yield connection, peer
    finally:
        peer.channel.close()
        connection.channel.close()
        await connection.channel.wait_closed()
        await peer.channel.wait_closed()


@asynccontextmanager
async def negotiated(
    options: Options | None = None, response: NegotiateResponse | None = None
) -> AsyncIterator[tuple[Connection, Peer]]:
    """The same, after NEGOTIATE; the client then has 10 credits."""
    async with ends(options) as (connection, peer):
        await negotiate(connection, peer, response or negotiate_response())
        yield connection, peer


async def negotiate(connection: Connection, peer: Peer, response: NegotiateResponse) -> None:
    async def serve() -> None:
        request = await peer.request()
        assert request.command == Command.NEGOTIATE
        peer.send(peer.answer(request, response.pack()))

    await asyncio.gather(connection.negotiate(), serve())
