"""A relay that records what passes: a capture without any privilege."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.interop.pcap import Piece

CHUNK = 1 << 18


@dataclass(slots=True)
class Relay:
    """Where to connect instead, and what went by in the first connection."""

    port: int = 0
    pieces: list[Piece] = field(default_factory=list)


@contextlib.asynccontextmanager
async def relay(address: str, port: int) -> AsyncIterator[Relay]:
    """Passes one connection to `port` on and records it."""
    recorded = Relay()
    pumps: list[asyncio.Task[None]] = []

    async def pump(
        source: asyncio.StreamReader, sink: asyncio.StreamWriter, from_client: bool
    ) -> None:
        while data := await source.read(CHUNK):
            recorded.pieces.append(Piece(from_client, data))
            sink.write(data)
            await sink.drain()
        sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(address, port)
        pumps.append(asyncio.ensure_future(pump(reader, far_writer, True)))
        pumps.append(asyncio.ensure_future(pump(far_reader, writer, False)))

    server = await asyncio.start_server(connected, address, 0)
    recorded.port = server.sockets[0].getsockname()[1]
    try:
        yield recorded
    finally:
        server.close()
        for each in pumps:
            each.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
