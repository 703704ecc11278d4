"""A channel's RDMA operations that are under way: from the frame that asks for one to its DONE."""

from __future__ import annotations

import asyncio
import itertools
from typing import NamedTuple

from smbdirect import frames
from smbdirect.attached_pools import PoolNumbers
from smbdirect.channel_end import ChannelEnd, TransferFailed
from smbdirect.close_reason import CloseReason
from smbdirect.frames import OF_THE_END, FrameType, Status
from smbdirect.outgoing import Buffer, Outgoing
from smbdirect.pool import PoolRange
from smbdirect.rdma_write import Done, RdmaWrite


class _Transfer(NamedTuple):
    """An RDMA_WRITE, RDMA_READ or REVOKE whose DONE has not come."""

    kind: int
    piece: PoolRange | None
    done: Done | None


class Transfers:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        end: ChannelEnd,
        outgoing: Outgoing,
        numbers: PoolNumbers,
    ) -> None:
        self.operations = itertools.count(1)
        """Numbers for the frames that have an answer."""
        self.under_way: dict[int, _Transfer] = {}
        self.written = self.read = 0
        """Bytes moved since the start."""
        self._loop = loop
        self._end = end
        self._outgoing = outgoing
        self._numbers = numbers

    def start(
        self, kind: FrameType, piece: PoolRange, length: int, descriptors: Buffer
    ) -> asyncio.Future[int]:
        """The bytes moved, or ChannelClosed or TransferFailed."""
        future: asyncio.Future[int] = self._loop.create_future()
        if self._end.closed is not None:
            future.set_exception(self._end.error())
            return future

        def done(status: int, moved: int) -> None:
            if future.done():
                return
            if status == Status.DONE:
                future.set_result(moved)
            elif self._end.closed is not None:
                future.set_exception(self._end.error())
            else:
                future.set_exception(TransferFailed.of(f"{kind.name} of {length} bytes", status))

        self._outgoing.add(self.begin(kind, piece, length, descriptors, done))
        return future

    def begin_write(self, write: RdmaWrite) -> bytes:
        return self.begin(
            FrameType.RDMA_WRITE, write.piece, write.length, write.descriptors, write.done
        )

    def begin(
        self,
        kind: int,
        piece: PoolRange,
        length: int,
        descriptors: Buffer,
        done: Done | None,
    ) -> bytes:
        """The frame of a transfer, which counts as under way from now on."""
        number = self._numbers[piece.pool]
        if length > piece.length:
            raise ValueError(f"{length} bytes do not fit into a range of {piece.length}")
        operation = next(self.operations)
        frame = frames.pack_rdma(kind, operation, number, piece.offset, length, descriptors)
        piece.begin_transfer()
        self.under_way[operation] = _Transfer(kind, piece, done)
        return frame

    def revoke(self, token: int, piece: PoolRange | None, done: Done | None) -> None:
        """The end of an exposure: `piece`, whose transfer began with it, is free at DONE."""
        operation = next(self.operations)
        self.under_way[operation] = _Transfer(FrameType.REVOKE, piece, done)
        self._outgoing.add(frames.Revoke(operation, token).pack())

    def on_done(self, body: memoryview) -> None:
        done = frames.Done.parse(body)
        self.done(done.operation, done.status, 0, done.moved)

    def done(self, operation: int, status: int, _: int, moved: int) -> None:
        """The members of a DONE frame in their order."""
        if status in OF_THE_END and operation in self.under_way:
            return  # whoever waits is told with the channel's end
        transfer = self.under_way.pop(operation, None)
        if transfer is None:
            words = f"the proxy sent DONE of operation {operation}, which is not under way"
            self._end.lost(CloseReason.PROTOCOL_ERROR, words)
            return
        kind, piece, done = transfer
        if kind == FrameType.RDMA_WRITE:
            self.written += moved
        elif kind == FrameType.RDMA_READ:
            self.read += moved
        if piece is not None:
            piece.end_transfer()
        if done is not None:
            done(status, moved)
        if self._end.closed is not None:
            self._end.settle()

    def abandon(self) -> None:
        """The channel has ended: no DONE will come, and nobody touches the ranges any more."""
        for transfer in self.under_way.values():
            if transfer.piece is not None:
                transfer.piece.end_transfer()
            if transfer.done is not None:
                self._loop.call_soon(transfer.done, Status.ENDED, 0)
        self.under_way.clear()
