"""RDMA channels: discovery, binding, descriptors, and what happens when one ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from smbdirect.channel_end import ChannelClosed
from smbdirect.frames import Access
from smbserver import client
from smbserver.client import NoRdma, Open, Session, bind_tcp, interfaces
from smbserver.client.exposure import expose
from smbserver.client.multichannel import discover_and_bind
from smbserver.client.options import DIALECTS
from smbserver.own_server import OwnServer, RunningProxy
from smbserver.wire.header import Command, Header
from smbserver.wire.negotiate import Dialect
from smbserver.wire.rdma_channel import RdmaChannel
from smbserver.wire.read import ReadRequest
from smbserver.wire.status import NtStatus, StatusError
from tests.sessions import connect

MIB = 1 << 20


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def open_file(session: Session, server: OwnServer, name: str) -> Open:
    return await (await session.tree(server.share)).create(name)


async def write_and_read(file: Open, length: int) -> None:
    data = os.urandom(length)
    assert await file.write(0, data) == length
    assert await file.read(0, length + 1) == data


@pytest.mark.parametrize("dialect", [d for d in DIALECTS if d >= Dialect.SMB_3_0])
@pytest.mark.parametrize("descriptors", [1, 3])
def test_payload_is_placed(
    server: OwnServer, proxy: RunningProxy, dialect: Dialect, descriptors: int
) -> None:
    async def work() -> None:
        wishes = {"dialects": (dialect,), "descriptors_per_request": descriptors}
        async with await connect(server, proxy.control, **wishes) as session:
            assert [channel.is_rdma for channel in session.channels] == [False, True]
            async with await open_file(session, server, "placed") as file:
                await write_and_read(file, 3 * MIB + 12345)
            counted = session.statistics()
            assert counted.written_by_rdma == counted.read_by_rdma == 3 * MIB + 12345
            assert counted.inline == 0

    run(work())


@pytest.mark.parametrize("kind", [RdmaChannel.RDMA_V1, RdmaChannel.RDMA_V1_INVALIDATE])
def test_with_and_without_invalidation(
    server: OwnServer, proxy: RunningProxy, kind: RdmaChannel
) -> None:
    async def work() -> None:
        async with await connect(server, proxy.control, rdma_channel=kind) as session:
            async with await open_file(session, server, "kinds") as file:
                for _ in range(20):
                    await write_and_read(file, 100_000)
            assert session.statistics().by_rdma == 20 * 200_000

    run(work())


def test_small_payload_stays_inline(server: OwnServer, proxy: RunningProxy) -> None:
    async def work() -> None:
        async with await connect(server, proxy.control, rdma_threshold=5000) as session:
            async with await open_file(session, server, "small") as file:
                await write_and_read(file, 4000)
                assert session.statistics().by_rdma == 0
                await write_and_read(file, 5000)
            assert session.statistics().by_rdma == 10_000

    run(work())


@pytest.mark.parametrize("protection", [{"sign": True}, {"encrypt": True}], ids=str)
def test_protected_payload_stays_inline(
    server: OwnServer, proxy: RunningProxy, protection: dict[str, bool]
) -> None:
    async def work() -> None:
        async with await connect(server, proxy.control, **protection) as session:
            async with await open_file(session, server, "protected") as file:
                await write_and_read(file, 2 * MIB)
            counted = session.statistics()
            assert counted.by_rdma == 0
            assert counted.inline == 4 * MIB

    run(work())


def test_a_session_that_begins_on_rdma(server: OwnServer, proxy: RunningProxy) -> None:
    async def work() -> None:
        async with await connect(server, proxy.control, rdma="only", spnego=False) as session:
            assert [channel.is_rdma for channel in session.channels] == [True]
            async with await open_file(session, server, "first") as file:
                await write_and_read(file, MIB)
            assert session.statistics().by_rdma == 2 * MIB

    run(work())


def test_a_file_is_read_on_another_channel_than_it_was_opened(
    server: OwnServer, proxy: RunningProxy
) -> None:
    async def work() -> None:
        async with await connect(server, proxy.control) as session:
            tcp, rdma = session.channels
            async with await open_file(session, server, "both") as file:
                with await session.buffer(MIB) as piece:
                    piece.view[:] = data = os.urandom(MIB)
                    assert await file.write_from(0, piece, channel=tcp) == MIB
                    piece.view[:] = bytes(MIB)
                    assert await file.read_into(0, piece, channel=rdma) == MIB
                    assert piece.view == data
            counted = session.statistics()
            assert (counted.written_inline, counted.read_by_rdma) == (MIB, MIB)

    run(work())


def test_errors_of_rdma_requests_leave_the_channel_alive(
    server: OwnServer, proxy: RunningProxy
) -> None:
    """Each error must take the invalidation along, else the second request would meet the first's token."""

    async def work() -> None:
        async with await connect(server, proxy.control) as session:
            file = await open_file(session, server, "errors")
            await write_and_read(file, 100_000)
            await file.close()
            with await session.buffer(100_000) as piece:
                for _ in range(5):
                    with pytest.raises(StatusError) as caught:
                        await file.read_into(0, piece)
                    assert caught.value.status == NtStatus.FILE_CLOSED
            async with await open_file(session, server, "errors") as file:
                assert len(await file.read(0, 100_000)) == 100_000
                assert await file.read(200_000, 50_000) == b""
            assert len(session.channels) == 2

    run(work())


def test_the_session_goes_on_over_tcp_when_the_rdma_channel_ends(
    server: OwnServer, proxy: RunningProxy
) -> None:
    async def work() -> None:
        async with await connect(server, proxy.control) as session:
            _, rdma = session.channels
            async with await open_file(session, server, "survives") as file:
                # More than is in flight at a time: when the first block is there, others are under way.
                data = os.urandom(8 * MIB) * 4
                writing = asyncio.ensure_future(file.write(0, data))
                while not session.statistics().written_by_rdma:
                    await asyncio.sleep(0)
                await rdma.connection.close("cut by the test")
                assert await writing == len(data)
                assert await file.read(0, len(data)) == data
            assert [channel.is_rdma for channel in session.channels] == [False]
            counted = session.statistics()
            assert counted.requests_repeated > 0
            assert session.proxy is not None
            await discover_and_bind(session, session.proxy, server.rdma_port)
            assert [channel.is_rdma for channel in session.channels] == [False, True]

    run(work())


def test_a_cancelled_read_gives_its_memory_back(server: OwnServer, proxy: RunningProxy) -> None:
    async def work() -> None:
        async with await connect(server, proxy.control) as session:
            async with await open_file(session, server, "cancelled") as file:
                await write_and_read(file, MIB)
                for _ in range(5):
                    reading = asyncio.ensure_future(file.read(0, MIB))
                    await asyncio.sleep(0)
                    reading.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await reading
                await write_and_read(file, MIB)
            while session.pool.used:
                await asyncio.sleep(0)

    run(work())


@pytest.mark.parametrize(("longer", "token"), [(4096, 0), (0, 0x100)])
def test_a_descriptor_out_of_bounds_costs_its_channel_alone(
    server: OwnServer, proxy: RunningProxy, longer: int, token: int
) -> None:
    """It names more than was exposed, or what nobody has exposed: the client's own adapter refuses the server."""

    async def work() -> None:
        async with (
            await connect(server, proxy.control) as other,
            await connect(server, proxy.control) as session,
        ):
            _, rdma = session.channels
            async with await open_file(session, server, "bounds") as file:
                await write_and_read(file, 100_000)
                with await session.buffer(10_000) as piece:
                    exposure = await expose(rdma.connection, piece, 10_000, Access.WRITE)
                    (honest,) = exposure.descriptors
                    named = replace(
                        honest, token=honest.token ^ token, length=honest.length + longer
                    )
                    request = ReadRequest(
                        file.file_id, 0, named.length, channel=1, channel_info=named.pack()
                    )
                    sent = await session.send(
                        Header(command=Command.READ),
                        request.pack(),
                        tree=file.tree,
                        channel=rdma,
                    )
                    with pytest.raises(ChannelClosed):
                        await sent.answer
                assert [channel.is_rdma for channel in session.channels] == [False]
                await write_and_read(file, 100_000)
            async with await open_file(other, server, "others") as file:
                await write_and_read(file, MIB)
            assert [channel.is_rdma for channel in other.channels] == [False, True]

    run(work())


def test_descriptors_that_do_not_cover_the_length_are_refused(
    server: OwnServer, proxy: RunningProxy
) -> None:
    async def work() -> None:
        async with await connect(server, proxy.control) as session:
            _, rdma = session.channels
            async with await open_file(session, server, "short") as file:
                await write_and_read(file, 100_000)
                with await session.buffer(10_000) as piece:
                    exposure = await expose(rdma.connection, piece, 10_000, Access.WRITE)
                    request = ReadRequest(
                        file.file_id, 0, 10_001, channel=1, channel_info=exposure.pack()
                    )
                    sent = await session.send(
                        Header(command=Command.READ),
                        request.pack(),
                        tree=file.tree,
                        channel=rdma,
                    )
                    assert (await sent.answer).status == NtStatus.INVALID_PARAMETER
                    await exposure.revoke()
                await write_and_read(file, 100_000)
            assert len(session.channels) == 2

    run(work())


def test_descriptors_on_a_tcp_channel_are_refused(server: OwnServer, proxy: RunningProxy) -> None:
    async def work() -> None:
        async with await connect(server, proxy.control) as session:
            tcp, rdma = session.channels
            async with await open_file(session, server, "refused") as file:
                await write_and_read(file, 10_000)
                with await session.buffer(10_000) as piece:
                    exposure = await expose(rdma.connection, piece, 10_000, Access.WRITE)
                    request = ReadRequest(
                        file.file_id, 0, 10_000, channel=1, channel_info=exposure.pack()
                    )
                    sent = await session.send(
                        Header(command=Command.READ), request.pack(), tree=file.tree, channel=tcp
                    )
                    assert (await sent.answer).status == NtStatus.INVALID_PARAMETER
                    await exposure.revoke()

    run(work())


def test_interfaces_name_the_address_twice(server: OwnServer, proxy: RunningProxy) -> None:
    """Once for TCP and once for RDMA, with one index: clients take either kind."""

    async def work() -> None:
        async with await connect(server, proxy.control, rdma=False) as session:
            offered = await interfaces(session)
            kinds = {one.rdma_capable for one in offered if str(one.address) == "127.0.0.1"}
            assert kinds == {False, True}
            assert len({one.if_index for one in offered}) == 1

    run(work())


def test_no_rdma_tells_what_was_tried(server: OwnServer, proxy: RunningProxy) -> None:
    async def work() -> None:
        with pytest.raises(NoRdma, match=r"127\.0\.0\.1 port 1"):
            await client.connect(
                "127.0.0.1",
                server.port,
                user=server.user,
                password=server.password,
                rdma=True,
                rdma_port=1,
                control=proxy.control,
            )

    run(work())


def test_a_proxy_of_ones_own(server: OwnServer) -> None:
    async def work() -> None:
        session = await client.connect(
            "127.0.0.1",
            server.port,
            user=server.user,
            password=server.password,
            rdma=True,
            rdma_port=server.rdma_port,
        )
        async with session:
            async with await open_file(session, server, "own") as file:
                await write_and_read(file, MIB)
            assert session.own_proxy is not None
            process = session.own_proxy.process
        assert process.returncode == 0

    run(work())


def test_a_lost_session_says_so(server: OwnServer, proxy: RunningProxy) -> None:
    async def work() -> None:
        session = await connect(server, proxy.control)
        file = await open_file(session, server, "lost")
        await bind_tcp(session, "127.0.0.1", server.port)
        for channel in list(session.channels):
            await channel.connection.close("cut by the test")
        with pytest.raises(ChannelClosed):
            await file.read(0, 10)
        await session.close()

    run(work())
