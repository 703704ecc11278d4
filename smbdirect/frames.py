"""Frames of a channel (docs/channel.md section 1), but for the SMB2 message.

Each is a frozen dataclass: `pack` gives the whole frame with its header, `parse` takes a body and
raises Malformed where it does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Protocol, Self

from smbdirect.pdu import BufferDescriptor

HEADER = Struct(">I")
"""Type byte and 24-bit big-endian length, read as one number."""
HEADER_SIZE = 4
LENGTH_MASK = 0xFFFFFF

POOL = Struct("<Q")
POOL_READY = Struct("<IIQ")
RDMA = Struct("<QIIQQ")
DONE = Struct("<QIIQ")
SEND_INVALIDATE = Struct("<I")
EXPOSE = Struct("<QIIQQ")
EXPOSED = Struct("<QII")
REVOKE = Struct("<QII")
CLOSED = Struct("<I")
INVALIDATED = Struct("<I")

DESCRIPTORS_MAX = 256
"""Descriptors in one RDMA frame."""
POOLS_MAX = 16
"""Pools of one channel."""
WORDS_MAX = 4096
"""Bytes of a reason in words: a proxy's sentences are far shorter."""
BODY_MAX = RDMA.size + DESCRIPTORS_MAX * BufferDescriptor.SIZE
"""Bytes of the longest body that is not an SMB2 message."""


class FrameType(IntEnum):
    MESSAGE = 0x00
    POOL = 0x80
    POOL_READY = 0x81
    RDMA_WRITE = 0x82
    RDMA_READ = 0x83
    DONE = 0x84
    SEND_INVALIDATE = 0x85
    EXPOSE = 0x86
    EXPOSED = 0x87
    REVOKE = 0x88
    CLOSED = 0x89
    INVALIDATED = 0x8A


class Status(IntEnum):
    """What became of an operation."""

    DONE = 0
    ENDED = 1
    REMOTE_ACCESS = 2
    REFUSED = 3
    TRANSPORT = 4


STATUS_WORDS: dict[int, str] = {
    Status.DONE: "done",
    Status.ENDED: "the connection ended before it was carried out",
    Status.REMOTE_ACCESS: "the peer refused the token or the range",
    Status.REFUSED: "the proxy refused it",
    Status.TRANSPORT: "the transport failed",
}


OF_THE_END = frozenset({Status.ENDED, Status.TRANSPORT})
"""CLOSED follows these, and says why."""


class Access(IntFlag):
    """What a peer may do with an exposed range."""

    READ = 1
    WRITE = 2


class Malformed(ValueError):
    """A body that does not fit its frame's type."""


class Frame(Protocol):
    def pack(self) -> bytes: ...


def header(kind: int, length: int) -> bytes:
    return HEADER.pack(kind << 24 | length)


def _fixed(layout: Struct, body: memoryview, name: str) -> tuple[int, ...]:
    if len(body) != layout.size:
        raise Malformed(f"{name} has {len(body)} bytes where {layout.size} belong")
    return layout.unpack(body)


def _words(body: memoryview, start: int, name: str) -> str:
    if len(body) < start:
        raise Malformed(f"{name} has {len(body)} bytes, fewer than the {start} of its fixed part")
    if len(body) - start > WORDS_MAX:
        raise Malformed(f"{name} carries {len(body) - start} bytes of words, more than {WORDS_MAX}")
    return bytes(body[start:]).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Pool:
    size: int

    def pack(self) -> bytes:
        return header(FrameType.POOL, POOL.size) + POOL.pack(self.size)

    @classmethod
    def parse(cls, body: memoryview) -> Self:
        return cls(*_fixed(POOL, body, "POOL"))


@dataclass(frozen=True, slots=True)
class PoolReady:
    status: int
    pool: int
    size: int
    words: str = ""

    def pack(self) -> bytes:
        words = self.words.encode()
        head = header(FrameType.POOL_READY, POOL_READY.size + len(words))
        return head + POOL_READY.pack(self.status, self.pool, self.size) + words

    @classmethod
    def parse(cls, body: memoryview) -> Self:
        words = _words(body, POOL_READY.size, "POOL_READY")
        status, pool, size = POOL_READY.unpack_from(body)
        return cls(status, pool, size, words)


@dataclass(frozen=True, slots=True)
class Rdma:
    """RDMA_WRITE (`kind` 0x82) or RDMA_READ (0x83)."""

    kind: FrameType
    operation: int
    pool: int
    offset: int
    length: int
    descriptors: bytes
    """BufferDescriptors as they stand in the SMB2 request, 16 bytes each."""

    def pack(self) -> bytes:
        return pack_rdma(
            self.kind, self.operation, self.pool, self.offset, self.length, self.descriptors
        )

    @classmethod
    def parse(cls, kind: FrameType, body: memoryview) -> Self:
        if len(body) < RDMA.size:
            raise Malformed(f"{kind.name} has {len(body)} bytes, fewer than {RDMA.size}")
        operation, pool, count, offset, length = RDMA.unpack_from(body)
        if count > DESCRIPTORS_MAX:
            raise Malformed(f"{kind.name} has {count} descriptors, more than {DESCRIPTORS_MAX}")
        if len(body) - RDMA.size != count * BufferDescriptor.SIZE:
            raise Malformed(
                f"{kind.name} says {count} descriptors and carries {len(body) - RDMA.size} bytes of them"
            )
        return cls(kind, operation, pool, offset, length, bytes(body[RDMA.size :]))


def pack_rdma(
    kind: int,
    operation: int,
    pool: int,
    offset: int,
    length: int,
    descriptors: bytes | bytearray | memoryview,
) -> bytes:
    """The hot path's way to an RDMA frame, without an object in between."""
    count, rest = divmod(len(descriptors), BufferDescriptor.SIZE)
    if rest or not 0 < count <= DESCRIPTORS_MAX:
        raise Malformed(
            f"{len(descriptors)} bytes of buffer descriptors: 1 to {DESCRIPTORS_MAX} of"
            f" {BufferDescriptor.SIZE} bytes are possible"
        )
    return b"".join(
        (
            HEADER.pack(kind << 24 | RDMA.size + len(descriptors)),
            RDMA.pack(operation, pool, count, offset, length),
            descriptors,
        )
    )


@dataclass(frozen=True, slots=True)
class Done:
    operation: int
    status: int
    moved: int
    """Bytes."""

    def pack(self) -> bytes:
        return header(FrameType.DONE, DONE.size) + DONE.pack(
            self.operation, self.status, 0, self.moved
        )

    @classmethod
    def parse(cls, body: memoryview) -> Self:
        operation, status, _, moved = _fixed(DONE, body, "DONE")
        return cls(operation, status, moved)


@dataclass(frozen=True, slots=True)
class SendInvalidate:
    token: int

    def pack(self) -> bytes:
        return header(FrameType.SEND_INVALIDATE, SEND_INVALIDATE.size) + SEND_INVALIDATE.pack(
            self.token
        )

    @classmethod
    def parse(cls, body: memoryview) -> Self:
        return cls(*_fixed(SEND_INVALIDATE, body, "SEND_INVALIDATE"))


@dataclass(frozen=True, slots=True)
class Expose:
    operation: int
    pool: int
    access: int
    offset: int
    length: int

    def pack(self) -> bytes:
        return header(FrameType.EXPOSE, EXPOSE.size) + EXPOSE.pack(
            self.operation, self.pool, self.access, self.offset, self.length
        )

    @classmethod
    def parse(cls, body: memoryview) -> Self:
        return cls(*_fixed(EXPOSE, body, "EXPOSE"))


@dataclass(frozen=True, slots=True)
class Exposed:
    operation: int
    status: int
    descriptor: BufferDescriptor

    def pack(self) -> bytes:
        body = EXPOSED.pack(self.operation, self.status, 0) + self.descriptor.pack()
        return header(FrameType.EXPOSED, len(body)) + body

    @classmethod
    def parse(cls, body: memoryview) -> Self:
        if len(body) != EXPOSED.size + BufferDescriptor.SIZE:
            raise Malformed(
                f"EXPOSED has {len(body)} bytes where {EXPOSED.size + BufferDescriptor.SIZE} belong"
            )
        operation, status, _ = EXPOSED.unpack_from(body)
        return cls(operation, status, BufferDescriptor.parse_all(body[EXPOSED.size :])[0])


@dataclass(frozen=True, slots=True)
class Revoke:
    operation: int
    token: int

    def pack(self) -> bytes:
        return header(FrameType.REVOKE, REVOKE.size) + REVOKE.pack(self.operation, self.token, 0)

    @classmethod
    def parse(cls, body: memoryview) -> Self:
        operation, token, _ = _fixed(REVOKE, body, "REVOKE")
        return cls(operation, token)


@dataclass(frozen=True, slots=True)
class Closed:
    reason: int
    words: str = ""

    def pack(self) -> bytes:
        words = self.words.encode()
        return header(FrameType.CLOSED, CLOSED.size + len(words)) + CLOSED.pack(self.reason) + words

    @classmethod
    def parse(cls, body: memoryview) -> Self:
        words = _words(body, CLOSED.size, "CLOSED")
        (reason,) = CLOSED.unpack_from(body)
        return cls(reason, words)


@dataclass(frozen=True, slots=True)
class Invalidated:
    token: int

    def pack(self) -> bytes:
        return header(FrameType.INVALIDATED, INVALIDATED.size) + INVALIDATED.pack(self.token)

    @classmethod
    def parse(cls, body: memoryview) -> Self:
        (token,) = _fixed(INVALIDATED, body, "INVALIDATED")
        return cls(token)


def status_words(status: int) -> str:
    return STATUS_WORDS.get(status, f"status {status}")
