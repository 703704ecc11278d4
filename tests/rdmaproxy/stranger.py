"""A peer that speaks iWARP by hand, well or badly: what no queue pair of ours would ever send.

MPA (RFC 5044) in revision 1, with no CRC unless it is asked for; every segment is built here.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from smbdirect.pdu import DataTransfer, NegotiateRequest

MPA_REQUEST = struct.Struct(">16sBBH")
MPA_KEY = b"MPA ID Req Frame"
MPA_CRC = 0x40
FPDU_LENGTH = struct.Struct(">H")
UNTAGGED = struct.Struct(">BBIIII")
TAGGED = struct.Struct(">BBIQ")
READ_REQUEST = struct.Struct(">IQIIQ")
LAST = 0x40
DDP_VERSION = RDMAP_VERSION = 1
SEND, READ_REQUEST_OPCODE = 3, 1
REQUEST = NegotiateRequest(
    credits_requested=10,
    preferred_send_size=1364,
    max_receive_size=8192,
    max_fragmented_size=1 << 20,
)


def fpdu(ulpdu: bytes) -> bytes:
    """One FPDU with a CRC field of zeros."""
    framed = FPDU_LENGTH.pack(len(ulpdu)) + ulpdu
    return framed + bytes(-len(framed) % 4) + bytes(4)


def untagged(opcode: int, payload: bytes, msn: int, queue: int = 0) -> bytes:
    rdmap = RDMAP_VERSION << 6 | opcode
    return UNTAGGED.pack(LAST | DDP_VERSION, rdmap, 0, queue, msn, 0) + payload


def tagged(opcode: int, payload: bytes, token: int, offset: int) -> bytes:
    control, rdmap = 0x80 | LAST | DDP_VERSION, RDMAP_VERSION << 6 | opcode
    return TAGGED.pack(control, rdmap, token, offset) + payload


def read_request(token: int) -> bytes:
    return untagged(READ_REQUEST_OPCODE, READ_REQUEST.pack(1, 0, 4096, token, 0), 1, queue=1)


@dataclass(slots=True)
class Stranger:
    """Use as a context; what it sends after the other end has hung up is lost in silence."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    msn: int = 0

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def say(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.writer.write(data)
            await self.writer.drain()

    async def begin(self, flags: int = 0) -> None:
        """MPA's request; the reply comes when the proxy has accepted."""
        await self.say(MPA_REQUEST.pack(MPA_KEY, flags, 1, 0))
        *_, length = MPA_REQUEST.unpack(await self.reader.readexactly(MPA_REQUEST.size))
        await self.reader.readexactly(length)

    async def send(self, message: bytes) -> None:
        """One Send of one segment."""
        self.msn += 1
        await self.say(fpdu(untagged(SEND, message, self.msn)))

    async def transfer(self, transfer: DataTransfer) -> None:
        await self.send(transfer.pack())

    async def negotiate(self) -> None:
        """From the first byte to an SMB Direct connection: the answer is awaited, and a credit granted."""
        await self.begin()
        await self.send(REQUEST.pack())
        (length,) = FPDU_LENGTH.unpack(await self.reader.readexactly(FPDU_LENGTH.size))
        await self.reader.readexactly(length)
        await self.transfer(DataTransfer(10, 1))

    async def ended(self) -> None:
        """Reads to the end, which must come."""
        with contextlib.suppress(OSError):
            while await self.reader.read(1 << 16):
                pass
