"""The header of every SMB2 message and how compounds are chained ([MS-SMB2] 2.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct

from smbserver.wire.bounds import HEADER_SIZE, Buffer, Malformed

SIZE = HEADER_SIZE
"""Bytes of the header."""

PROTOCOL_ID = b"\xfeSMB"

MAX_COMPOUND = 256
"""Messages in one compound: clients chain fewer than ten, one frame could hold 100,000."""

UNSOLICITED = 0xFFFFFFFFFFFFFFFF
"""MessageId of what a server sends unasked: oplock and lease breaks."""

SIGNATURE_OFFSET = 48
"""Where the 16 bytes of the signature stand."""

_LAYOUT = Struct("<4sHHIHHIIQIIQ16s")
_NEXT_COMMAND = Struct("<I")
_NEXT_COMMAND_OFFSET = 20


class Command(IntEnum):
    """What a message is about ([MS-SMB2] 2.2.1.2, Command)."""

    NEGOTIATE = 0x00
    SESSION_SETUP = 0x01
    LOGOFF = 0x02
    TREE_CONNECT = 0x03
    TREE_DISCONNECT = 0x04
    CREATE = 0x05
    CLOSE = 0x06
    FLUSH = 0x07
    READ = 0x08
    WRITE = 0x09
    LOCK = 0x0A
    IOCTL = 0x0B
    CANCEL = 0x0C
    ECHO = 0x0D
    QUERY_DIRECTORY = 0x0E
    CHANGE_NOTIFY = 0x0F
    QUERY_INFO = 0x10
    SET_INFO = 0x11
    OPLOCK_BREAK = 0x12


class HeaderFlags(IntFlag):
    """Flags of the header ([MS-SMB2] 2.2.1.2, Flags)."""

    SERVER_TO_REDIR = 0x00000001
    ASYNC_COMMAND = 0x00000002
    RELATED_OPERATIONS = 0x00000004
    SIGNED = 0x00000008
    PRIORITY_MASK = 0x00000070
    DFS_OPERATIONS = 0x10000000
    REPLAY_OPERATION = 0x20000000


@dataclass(slots=True)
class Header:
    """SMB2 header, sync and async ([MS-SMB2] 2.2.1.1, 2.2.1.2).

    Not frozen, because it is made for every message and a frozen one takes six times as long.
    """

    credit_charge: int = 0
    status: int = 0
    """NtStatus of a response; in a request the low half is ChannelSequence."""
    command: int = 0
    """A `Command`, or a number that is none."""
    credits: int = 0
    """Asked for in a request, granted in a response."""
    flags: int = 0
    next_command: int = 0
    message_id: int = 0
    process_id: int = 0
    """Reserved of the sync header; low half of `async_id` in the async header."""
    tree_id: int = 0
    session_id: int = 0
    signature: bytes = bytes(16)

    @classmethod
    def parse(cls, message: Buffer) -> Header:
        if len(message) < SIZE:
            raise Malformed(f"a message of {len(message)} bytes has no room for the SMB2 header")
        protocol, size, *fields = _LAYOUT.unpack_from(message)
        if protocol != PROTOCOL_ID or size != SIZE:
            raise Malformed(f"not an SMB2 header: {protocol!r}, StructureSize {size}")
        return cls(*fields)

    def pack(self) -> bytes:
        return _LAYOUT.pack(
            PROTOCOL_ID,
            SIZE,
            self.credit_charge,
            self.status,
            self.command,
            self.credits,
            self.flags,
            self.next_command,
            self.message_id,
            self.process_id,
            self.tree_id,
            self.session_id,
            self.signature,
        )

    @property
    def async_id(self) -> int:
        """AsyncId, if `is_async`; it stands where the sync header has ProcessId and TreeId."""
        return self.process_id | self.tree_id << 32

    @async_id.setter
    def async_id(self, value: int) -> None:
        self.process_id, self.tree_id = value & 0xFFFFFFFF, value >> 32

    @property
    def channel_sequence(self) -> int:
        """ChannelSequence of a request in the 3.x dialects."""
        return self.status & 0xFFFF

    # Plain numbers below: an `&` with a member of HeaderFlags costs more than parsing the header.

    @property
    def is_response(self) -> bool:
        return self.flags & 0x1 != 0

    @property
    def is_async(self) -> bool:
        return self.flags & 0x2 != 0

    @property
    def is_related(self) -> bool:
        return self.flags & 0x4 != 0

    @property
    def is_signed(self) -> bool:
        return self.flags & 0x8 != 0

    @property
    def is_replay(self) -> bool:
        return self.flags & 0x20000000 != 0


def split_compound(message: Buffer) -> list[memoryview]:
    """The messages of a compound, each with its header and its padding ([MS-SMB2] 3.3.5.2.7)."""
    rest = memoryview(message)
    parts = []
    while True:
        if len(rest) < SIZE:
            raise Malformed(f"a message of {len(rest)} bytes has no room for the SMB2 header")
        (step,) = _NEXT_COMMAND.unpack_from(rest, _NEXT_COMMAND_OFFSET)
        if step == 0:
            parts.append(rest)
            return parts
        if step % 8 or step < SIZE or step > len(rest) - SIZE:
            raise Malformed(f"NextCommand {step} in a message of {len(rest)} bytes")
        if len(parts) + 1 == MAX_COMPOUND:
            raise Malformed(f"more than {MAX_COMPOUND} messages in one compound")
        parts.append(rest[:step])
        rest = rest[step:]
