"""Memory that the server may reach for one READ or WRITE (client role of docs/channel.md section 1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from smbdirect.frames import Access
from smbdirect.pdu import BufferDescriptor
from smbdirect.pool import PoolRange
from smbserver.client.connection import Connection


@dataclass(frozen=True, slots=True)
class Exposure:
    """A range, in one or several descriptors, from `expose` until `revoke` has returned."""

    connection: Connection
    descriptors: tuple[BufferDescriptor, ...]

    def pack(self) -> bytes:
        """The channel information of a request."""
        return b"".join(descriptor.pack() for descriptor in self.descriptors)

    async def revoke(self) -> None:
        """Afterwards the server cannot reach the range, whatever it invalidated before."""
        self.connection.hold()
        revoke = self.connection.channel.revoke
        if len(self.descriptors) == 1:
            await revoke(self.descriptors[0])
        else:
            await asyncio.gather(*map(revoke, self.descriptors))


async def expose(
    connection: Connection, piece: PoolRange, length: int, access: Access, count: int = 1
) -> Exposure:
    """Exposes the first `length` bytes of a range in `count` descriptors of about equal length."""
    connection.hold()
    channel = connection.channel
    if count == 1:
        whole = piece if length == piece.length else _part(piece, 0, length)
        return Exposure(connection, (await channel.expose(whole, access),))
    parts = [_part(piece, start, stop) for start, stop in _cuts(length, count)]
    answers = await asyncio.gather(
        *(channel.expose(part, access) for part in parts), return_exceptions=True
    )
    exposed = tuple(answer for answer in answers if isinstance(answer, BufferDescriptor))
    exposure = Exposure(connection, exposed)
    for answer in answers:
        if isinstance(answer, BaseException):
            await exposure.revoke()
            raise answer
    return exposure


def _cuts(length: int, count: int) -> list[tuple[int, int]]:
    step = -(-length // count)
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _part(piece: PoolRange, start: int, stop: int) -> PoolRange:
    """A range of its own for the channel's books; the memory stays that of the whole."""
    size = stop - start
    return PoolRange(piece.pool, piece.offset + start, size, size, piece.view[start:stop])
