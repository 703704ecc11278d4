"""What an engine is told by its queue pair, and what it answers.

Posts and exposures are for the queue pair, the rest is for the engine's owner. An index that goes out with a request
comes back with its completion.
"""

from __future__ import annotations

from dataclasses import dataclass

from smbdirect.close_reason import CloseReason
from smbdirect.pdu import Buffer, BufferDescriptor
from smbdirect.sendqueue import SEND_QUEUE, Status, Tag, Work


@dataclass(frozen=True, slots=True)
class Limits:
    """What the queue pair can do."""

    send_queue: int = SEND_QUEUE
    receive_queue: int = 255
    initiator_depth: int = 32
    transfer_bytes: int = 8 << 20


# What the queue pair tells.


@dataclass(frozen=True, slots=True)
class Completion:
    tag: Tag
    index: int = 0
    """That of the Work, or of Expose and Revoke; receives have none."""
    status: Status = Status.OK
    message: Buffer = b""
    """Of a receive: what arrived."""
    descriptor: BufferDescriptor | None = None
    """Of an exposure."""
    invalidated: int | None = None
    """Of a receive: the token that the peer's Send with Invalidate has ended."""


# What follows: for the queue pair ...


@dataclass(frozen=True, slots=True)
class PostReceives:
    count: int
    size: int
    """Bytes of each."""


@dataclass(frozen=True, slots=True)
class Post:
    """Work requests for one call, which take effect in order."""

    chain: tuple[Work, ...]


@dataclass(frozen=True, slots=True)
class Expose:
    index: int
    memory: memoryview
    access: int


@dataclass(frozen=True, slots=True)
class Revoke:
    index: int
    token: int


@dataclass(frozen=True, slots=True)
class Disconnect:
    """End the queue pair; `disconnected` is to be called when it has ended."""


# ... and for the owner.


@dataclass(frozen=True, slots=True)
class Established:
    pass


@dataclass(frozen=True, slots=True)
class Deliver:
    """A whole message: give its length back with `consumed`."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Transferred:
    operation: int
    status: Status
    bytes: int


@dataclass(frozen=True, slots=True)
class Exposed:
    operation: int
    status: Status
    descriptor: BufferDescriptor | None


@dataclass(frozen=True, slots=True)
class Revoked:
    operation: int
    status: Status


@dataclass(frozen=True, slots=True)
class Invalidated:
    """The peer has ended an exposure; it must still be revoked. Comes before the message that said so."""

    token: int


@dataclass(frozen=True, slots=True)
class Writable:
    """Queued bytes fell below SEND_LOW_WATER."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Comes once, and is the last action."""

    reason: CloseReason
    words: str


Action = (
    PostReceives | Post | Expose | Revoke | Disconnect
    | Established | Deliver | Transferred | Exposed | Revoked
    | Invalidated | Writable | Closed
)  # fmt: skip
