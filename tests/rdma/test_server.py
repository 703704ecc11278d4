"""The whole server on every fabric of this host: discovery, binding, payload by RDMA over several channels."""

from __future__ import annotations

import asyncio
import os

from smbserver import client
from smbserver.own_server import OwnServer, RunningProxy
from tests.rdma.conftest import Place
from tests.sessions import connect

SIZE = 1 << 20
"""Bytes that each channel moves in each direction."""
CHANNELS = 4
DEADLINE = 90.0
"""Seconds; an emulated machine needs twenty."""


async def look(served: OwnServer, place: Place, control: str) -> None:
    async with await connect(
        served, control, rdma_channels=CHANNELS, address=place.address
    ) as session:
        offered = await client.interfaces(session)
        capable = [str(one.address) for one in offered if one.rdma_capable]
        assert capable.count(place.address) == 1
        by_rdma = [one for one in session.channels if one.is_rdma]
        facts = [one.connection.channel.facts for one in by_rdma]
        assert [one.fabric for one in facts] == [place.fabric] * CHANNELS
        async with await (await session.tree(served.share)).create("payload") as file:
            await write_and_read(file, by_rdma, served)
        counted = session.statistics()
        assert (counted.by_rdma, counted.inline) == (2 * CHANNELS * SIZE, 0)
        (told,) = (await asyncio.to_thread(served.status))["sessions"]
        placed = [one["bytes_placed_by_rdma"] for one in told["channels"]]
        assert sorted(placed) == [0, *[2 * SIZE] * CHANNELS]


async def write_and_read(
    file: client.Open, channels: list[client.SessionChannel], served: OwnServer
) -> None:
    """Each channel writes a part of its own, all at once; then each reads what its neighbour wrote."""
    session = file.tree.session
    sent = [os.urandom(SIZE) for _ in channels]

    async def write(number: int) -> None:
        with await session.buffer(SIZE) as piece:
            piece.view[:] = sent[number]
            channel = channels[number]
            assert await file.write_from(number * SIZE, piece, channel=channel) == SIZE

    async def read(number: int) -> None:
        with await session.buffer(SIZE) as piece:
            channel = channels[number - 1]
            assert await file.read_into(number * SIZE, piece, channel=channel) == SIZE
            assert piece.view == sent[number]

    await asyncio.gather(*map(write, range(len(channels))))
    assert (served.path / file.name).read_bytes() == b"".join(sent)
    await asyncio.gather(*map(read, range(len(channels))))


def test_payload_by_rdma(served: OwnServer, place: Place, proxy: RunningProxy) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE):
            await look(served, place, proxy.control)

    asyncio.run(bounded())
