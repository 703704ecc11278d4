"""Client role: the ranges that the peer may read or write, from EXPOSE to the DONE of REVOKE."""

from __future__ import annotations

import asyncio

from smbdirect import frames
from smbdirect.attached_pools import PoolNumbers
from smbdirect.channel_end import ChannelEnd, TransferFailed
from smbdirect.frames import Access, Status
from smbdirect.outgoing import Outgoing
from smbdirect.pdu import BufferDescriptor
from smbdirect.pool import PoolRange
from smbdirect.transfers import Transfers


class Exposures:
    def __init__(
        self, end: ChannelEnd, outgoing: Outgoing, transfers: Transfers, numbers: PoolNumbers
    ) -> None:
        self._end = end
        self._outgoing = outgoing
        self._transfers = transfers
        self._numbers = numbers
        self._asked: dict[int, tuple[PoolRange, asyncio.Future[BufferDescriptor]]] = {}
        self._exposed: dict[int, PoolRange] = {}
        self._invalidated: set[int] = set()
        """Tokens of `_exposed` that the peer has ended."""

    async def expose(self, piece: PoolRange, access: Access) -> BufferDescriptor:
        """Lets the peer read or write the range, which stays taken, until `revoke`."""
        self._end.check()
        number = self._numbers[piece.pool]
        operation = next(self._transfers.operations)
        answer: asyncio.Future[BufferDescriptor] = asyncio.get_running_loop().create_future()
        self._asked[operation] = piece, answer
        piece.begin_transfer()
        self._outgoing.add(
            frames.Expose(operation, number, access, piece.offset, piece.length).pack()
        )
        return await answer

    async def revoke(self, descriptor: BufferDescriptor) -> None:
        """From the return on the peer cannot touch the range; nor after the channel's end."""
        if self._end.closed is not None:
            return
        token = descriptor.token
        piece = self._exposed.pop(token, None)
        if token in self._invalidated:  # the peer did it: nothing to wait for
            self._invalidated.remove(token)
            self._transfers.revoke(token, piece, None)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(status: int, _: int) -> None:
            if future.done():
                return
            if status == Status.DONE or self._end.closed is not None:
                future.set_result(None)
            else:
                future.set_exception(TransferFailed.of("REVOKE", status))

        self._transfers.revoke(token, piece, done)
        await future

    def on_exposed(self, body: memoryview) -> None:
        exposed = frames.Exposed.parse(body)
        if exposed.operation not in self._asked:
            raise frames.Malformed(f"EXPOSED of the unknown operation {exposed.operation}")
        if exposed.status in frames.OF_THE_END:  # whoever asked is told with the channel's end
            return
        piece, answer = self._asked.pop(exposed.operation)
        if exposed.status:
            piece.end_transfer()
            if not answer.done():
                answer.set_exception(TransferFailed.of("EXPOSE", exposed.status))
        elif answer.done():  # whoever asked was cancelled meanwhile
            self._transfers.revoke(exposed.descriptor.token, piece, None)
        else:
            self._exposed[exposed.descriptor.token] = piece
            answer.set_result(exposed.descriptor)

    def on_invalidated(self, body: memoryview) -> None:
        token = frames.Invalidated.parse(body).token
        if token in self._exposed:
            self._invalidated.add(token)

    def abandon(self) -> None:
        """The channel has ended, and with it what the peer was let."""
        for piece, answer in self._asked.values():
            piece.end_transfer()
            self._end.fail(answer)
        for piece in self._exposed.values():
            piece.end_transfer()
        self._asked.clear()
        self._exposed.clear()
        self._invalidated.clear()
