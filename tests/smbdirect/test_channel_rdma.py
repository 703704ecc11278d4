"""RDMA through a channel: pools, transfers, exposed ranges; who owns the memory at each moment."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from array import array
from typing import Any

import pytest

from smbdirect import frames
from smbdirect.channel_end import ChannelClosed, TransferFailed
from smbdirect.frames import Access, FrameType, Status
from smbdirect.inbox import RECEIVE_QUEUE_MAX
from smbdirect.pdu import BufferDescriptor
from smbdirect.pool import PAGE, Pool
from smbdirect.rdma_write import RdmaWrite
from tests.smbdirect.far_end import (
    TCP,
    Collected,
    attached,
    counting_pair,
    message,
    pair,
    run,
)


def test_a_pool_is_attached_once() -> None:
    async def story() -> None:
        channel, peer = pair()
        pool = Pool(2 * PAGE)
        asked = [asyncio.create_task(channel.attach(pool)) for _ in range(3)]
        data, ancillary, _, _ = await asyncio.to_thread(_receive_rights, peer.sock)
        assert data == frames.Pool(pool.size).pack()
        ((_, _, raw),) = ancillary
        (fd,) = array("i", raw)
        assert os.fstat(fd).st_ino == os.fstat(pool.fd).st_ino
        os.close(fd)
        await peer.write(frames.PoolReady(0, 5, pool.size).pack())
        await asyncio.gather(*asked)
        await channel.attach(pool)
        channel.rdma_write(pool.allocate(10), 10, bytes(16))
        kind, body = await peer.frame()
        assert kind == FrameType.RDMA_WRITE
        assert frames.Rdma.parse(FrameType.RDMA_WRITE, memoryview(body)).pool == 5
        peer.sock.close()
        await channel.wait_closed()
        pool.close()

    run(story)


def _receive_rights(sock: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
    sock.setblocking(True)
    try:
        return sock.recvmsg(100, socket.CMSG_SPACE(64))
    finally:
        sock.setblocking(False)


def test_the_pools_descriptor_goes_behind_what_waits() -> None:
    async def story() -> None:
        channel, peer = pair()
        body = b"x" * 3_000_000
        channel.send(body)
        pool = Pool(PAGE)
        asked = asyncio.create_task(channel.attach(pool))
        assert await peer.frame() == (0, body)
        assert (await peer.frame())[0] == FrameType.POOL
        await peer.write(frames.PoolReady(0, 1, PAGE).pack())
        await asked
        channel.close()
        pool.close()

    run(story)


def test_a_refused_pool_may_be_tried_again() -> None:
    async def story() -> None:
        channel, peer = pair()
        pool = Pool(PAGE)
        asked = asyncio.create_task(channel.attach(pool))
        await peer.frame()
        await peer.write(frames.PoolReady(3, 0, 0, "memory limit of 0 bytes").pack())
        with pytest.raises(TransferFailed, match="memory limit"):
            await asked
        with pytest.raises(ValueError, match="not attached"):
            channel.rdma_read(pool.allocate(1), 1, bytes(16))
        again = asyncio.create_task(channel.attach(pool))
        await peer.frame()
        await peer.write(frames.PoolReady(0, 1, PAGE).pack())
        await again
        channel.close()
        pool.close()

    run(story)


def test_messages_that_come_before_the_start_are_delivered_after_it() -> None:
    async def story() -> None:
        channel, peer = pair()
        before = [b"%d" % n for n in range(RECEIVE_QUEUE_MAX - 1)]
        await peer.write(b"".join(map(message, before)))
        pool = await attached(channel, peer)
        after = [b"-%d" % n for n in range(10)]
        await peer.write(b"".join(map(message, after)))
        for _ in range(10):
            await asyncio.sleep(0)
        got = Collected(channel)
        await got.count(len(before) + len(after))
        assert got.messages == before + after
        peer.sock.close()
        await got.end
        pool.close()

    run(story)


def test_a_tcp_connection_takes_no_pool() -> None:
    async def story() -> None:
        channel, _ = pair(TCP)
        pool = Pool(PAGE)
        with pytest.raises(ValueError, match="TCP"):
            await channel.attach(pool)
        pool.close()
        channel.close()

    run(story)


def test_writes_go_out_before_their_message_in_one_call_and_done_is_told() -> None:
    async def story() -> None:
        channel, sock, peer = counting_pair()
        pool = await attached(channel, peer)
        channel.start(lambda _: None, lambda _: None)
        told: list[tuple[int, int]] = []
        piece = pool.allocate(3 * PAGE)
        descriptors = BufferDescriptor(7, 8, 9).pack() * 2
        write = RdmaWrite(piece, 100, descriptors, lambda *done: told.append(done))
        before = sock.calls
        channel.send(b"response", writes=[write, write], invalidate=0xDEADBEEF)
        assert sock.calls == before + 1
        operations = []
        for _ in range(2):
            kind, body = await peer.frame()
            rdma = frames.Rdma.parse(FrameType(kind), memoryview(body))
            assert (rdma.kind, rdma.pool, rdma.offset, rdma.length, rdma.descriptors) == (
                FrameType.RDMA_WRITE,
                1,
                piece.offset,
                100,
                descriptors,
            )
            operations.append(rdma.operation)
        assert await peer.frame() == (FrameType.SEND_INVALIDATE, struct.pack("<I", 0xDEADBEEF))
        assert await peer.frame() == (0, b"response")
        piece.release()
        assert pool.used
        for operation in operations:
            await peer.write(frames.Done(operation, 0, 100).pack())
        channel.close()
        await channel.wait_closed()
        assert told == [(0, 100), (0, 100)]
        assert pool.used == 0
        assert channel.statistics().bytes_rdma_written == 200
        pool.close()

    run(story)


def test_a_transfers_result_and_its_failure() -> None:
    async def story() -> None:
        channel, peer = pair()
        pool = await attached(channel, peer)
        channel.start(lambda _: None, lambda _: None)
        piece = pool.allocate(100)
        for status in (Status.DONE, Status.REFUSED):
            future = channel.rdma_read(piece, 100, bytes(32))
            _, body = await peer.frame()
            operation = frames.Rdma.parse(FrameType.RDMA_READ, memoryview(body)).operation
            await peer.write(frames.Done(operation, status, 100 if not status else 0).pack())
            if status:
                with pytest.raises(TransferFailed, match="RDMA_READ of 100 bytes") as caught:
                    await future
                assert caught.value.status == Status.REFUSED
            else:
                assert await future == 100
        assert channel.statistics().bytes_rdma_read == 100
        with pytest.raises(ValueError, match="101 bytes"):
            channel.rdma_read(piece, 101, bytes(16))
        channel.close()
        pool.close()

    run(story)


def test_expose_and_revoke() -> None:
    async def story() -> None:
        channel, peer = pair()
        pool = await attached(channel, peer)
        channel.start(lambda _: None, lambda _: None)
        piece = pool.allocate(PAGE)
        asked = asyncio.create_task(channel.expose(piece, Access.READ | Access.WRITE))
        kind, body = await peer.frame()
        assert kind == FrameType.EXPOSE
        exposing = frames.Expose.parse(memoryview(body))
        assert (exposing.access, exposing.offset, exposing.length) == (3, piece.offset, PAGE)
        descriptor = BufferDescriptor(5, 6, PAGE)
        await peer.write(frames.Exposed(exposing.operation, 0, descriptor).pack())
        assert await asked == descriptor
        piece.release()
        assert pool.used == PAGE  # the peer may still write there
        revoking = asyncio.create_task(channel.revoke(descriptor))
        kind, body = await peer.frame()
        assert kind == FrameType.REVOKE
        revoke = frames.Revoke.parse(memoryview(body))
        assert revoke.token == 6
        await peer.write(frames.Done(revoke.operation, 0, 0).pack())
        await revoking
        assert pool.used == 0
        channel.close()
        pool.close()

    run(story)


@pytest.mark.parametrize("status", sorted(frames.OF_THE_END))
def test_what_the_end_cut_short_fails_as_the_channel_does(status: Status) -> None:
    """The statuses come before CLOSED; whoever asked goes on with another channel, or learns why."""

    async def story() -> None:
        channel, peer = pair()
        pool = await attached(channel, peer)
        channel.start(lambda _: None, lambda _: None)
        with pool.allocate(PAGE) as piece:
            exposing = asyncio.create_task(channel.expose(piece, Access.READ))
            _, body = await peer.frame()
            operation = frames.Expose.parse(memoryview(body)).operation
            await peer.write(frames.Exposed(operation, 0, BufferDescriptor(5, 6, PAGE)).pack())
            waiting = [
                asyncio.create_task(channel.revoke(await exposing)),
                asyncio.create_task(channel.expose(piece, Access.READ)),
                asyncio.ensure_future(channel.rdma_read(piece, PAGE, bytes(16))),
            ]
            read, revoke, expose = [(await peer.frame())[1] for _ in waiting]
        for operation in (
            frames.Revoke.parse(memoryview(revoke)).operation,
            frames.Rdma.parse(FrameType.RDMA_READ, memoryview(read)).operation,
        ):
            await peer.write(frames.Done(operation, status, 0).pack())
        operation = frames.Expose.parse(memoryview(expose)).operation
        await peer.write(frames.Exposed(operation, status, BufferDescriptor(0, 0, 0)).pack())
        await peer.write(frames.Closed(3, "the link is down").pack())
        revoked, *ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert revoked is None
        assert [(type(end), str(end)) for end in ends] == [(ChannelClosed, "the link is down")] * 2
        assert pool.used == 0
        pool.close()

    run(story)


def test_an_exposure_that_nobody_waits_for_any_more_is_revoked() -> None:
    async def story() -> None:
        channel, peer = pair()
        pool = await attached(channel, peer)
        channel.start(lambda _: None, lambda _: None)
        with pool.allocate(PAGE) as piece:
            asked = asyncio.create_task(channel.expose(piece, Access.READ))
            _, body = await peer.frame()
            asked.cancel()
        exposing = frames.Expose.parse(memoryview(body))
        await peer.write(frames.Exposed(exposing.operation, 0, BufferDescriptor(1, 2, 3)).pack())
        kind, body = await peer.frame()
        assert kind == FrameType.REVOKE
        await peer.write(frames.Done(frames.Revoke.parse(memoryview(body)).operation, 0, 0).pack())
        channel.close()
        await channel.wait_closed()
        assert pool.used == 0
        pool.close()

    run(story)


def test_nobody_waits_for_the_end_of_an_exposure_that_the_peer_invalidated() -> None:
    async def story() -> None:
        channel, peer = pair()
        pool = await attached(channel, peer)
        piece = pool.allocate(PAGE)
        asked = asyncio.create_task(channel.expose(piece, Access.READ))
        _, body = await peer.frame()
        exposing = frames.Expose.parse(memoryview(body))
        descriptor = BufferDescriptor(1, 2, PAGE)
        await peer.write(frames.Exposed(exposing.operation, 0, descriptor).pack())
        await peer.write(frames.Invalidated(2).pack() + frames.Invalidated(3).pack())
        await peer.write(frames.header(0, 5) + b"final")
        assert await channel.receive() == b"final"
        assert await asked == descriptor
        await channel.revoke(descriptor)
        piece.release()
        assert pool.used == PAGE  # the proxy still names it
        kind, body = await peer.frame()
        assert kind == FrameType.REVOKE
        await peer.write(frames.Done(frames.Revoke.parse(memoryview(body)).operation, 0, 0).pack())
        await peer.write(frames.header(0, 5) + b"after")
        assert await channel.receive() == b"after"
        assert pool.used == 0
        channel.close()
        pool.close()

    run(story)
