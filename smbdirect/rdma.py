"""RDMA Read and Write for the buffers that an SMB2 request describes ([MS-SMBD] 3.1.4.3 and 3.1.4.4).

A transfer is cut into pieces where a descriptor ends and where the device's limit for one request is; a piece is one
work request. Writes stand in one order with the messages; Reads wait for nothing but a place among the outstanding
ones (ORD), and nothing waits for them.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from smbdirect.pdu import BufferDescriptor
from smbdirect.sendqueue import Opcode, SendQueue, Status

MAX_DESCRIPTORS = 256
"""Descriptors in one SMB request: 256 of 4 KiB still carry 1 MiB."""
TRANSFERS_MAX = 1024
"""Transfers waiting or under way on one connection."""
READ_DEPTH_MAX = 255
"""RDMA Reads outstanding at most, whatever a device offers."""


class Refused(Exception):
    """A request of the owner that is not carried out; `errno` says why."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.errno = number


class Direction(Enum):
    WRITE = "our memory to the peer's"
    READ = "the peer's memory to ours"


@dataclass(frozen=True, slots=True)
class Transfer:
    """Moves the whole of `memory` to or from the concatenation of the descriptors, which may be longer."""

    operation: int
    direction: Direction
    memory: memoryview
    descriptors: Sequence[BufferDescriptor]

    def check(self) -> None:
        if not len(self.memory) or not 0 < len(self.descriptors) <= MAX_DESCRIPTORS:
            raise Refused(errno.EINVAL)
        if any(d.length == 0 or d.offset + d.length >= 1 << 64 for d in self.descriptors):
            raise Refused(errno.EINVAL)
        if sum(d.length for d in self.descriptors) < len(self.memory):
            raise Refused(errno.EINVAL)


@dataclass(slots=True)
class _Pending:
    transfer: Transfer
    messages: int
    """Writes: messages queued before this one."""
    cut: int = 0
    """Bytes posted so far."""
    moved: int = 0
    """Bytes completed."""
    descriptor: int = 0
    place: int = 0
    """Where the next piece begins: a descriptor, and the bytes of it that are used."""
    status: Status = Status.FLUSHED
    """What to report if it cannot be finished."""


Report = Callable[[int, Status, int], None]
"""Is told of a transfer's end: operation, status, bytes."""


@dataclass(slots=True)
class Rdma:
    report: Report
    transfer_bytes: int = 0
    """Of one work request: the device's limit."""
    depth: int = 0
    """Reads that may be outstanding."""
    written_bytes: int = 0
    read_bytes: int = 0
    _all: dict[int, _Pending] = field(default_factory=dict)
    _writes: deque[_Pending] = field(default_factory=deque)
    _reads: deque[_Pending] = field(default_factory=deque)
    _outstanding: dict[int, tuple[_Pending, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, transfer: Transfer, messages: int) -> None:
        transfer.check()
        if transfer.direction is Direction.READ and self.depth == 0:
            raise Refused(errno.ENOTSUP)
        if len(self._all) >= TRANSFERS_MAX:
            raise Refused(errno.EBUSY)
        pending = _Pending(transfer, messages)
        self._all[id(pending)] = pending
        (self._writes if transfer.direction is Direction.WRITE else self._reads).append(pending)

    def next_write(self) -> int | None:
        """How many messages go before the Write that is first; None: no Write waits."""
        return self._writes[0].messages if self._writes else None

    def read_waits(self) -> bool:
        return bool(self._reads)

    def read_is_possible(self) -> bool:
        return len(self._outstanding) < self.depth

    def _cut(self, waiting: deque[_Pending]) -> tuple[memoryview, int, int]:
        """The next piece: our memory, remote offset, token."""
        pending = waiting[0]
        transfer = pending.transfer
        descriptor = transfer.descriptors[pending.descriptor]
        left = len(transfer.memory) - pending.cut
        length = min(left, descriptor.length - pending.place, self.transfer_bytes)
        memory = transfer.memory[pending.cut : pending.cut + length]
        offset = descriptor.offset + pending.place
        pending.cut += length
        pending.place += length
        if pending.place == descriptor.length:
            pending.descriptor += 1
            pending.place = 0
        if length == left:
            waiting.popleft()
        return memory, offset, descriptor.token

    def post_write(self, queue: SendQueue) -> None:
        pending = self._writes[0]
        memory, offset, token = self._cut(self._writes)
        done = partial(self._written, pending, len(memory))
        queue.add_ordered(Opcode.WRITE, memory, done, offset, token)

    def post_read(self, queue: SendQueue) -> None:
        pending = self._reads[0]
        memory, offset, token = self._cut(self._reads)
        place = next(place for place in range(self.depth) if place not in self._outstanding)
        self._outstanding[place] = pending, len(memory)
        queue.add_read(place, memory, offset, token)

    def _moved(self, pending: _Pending, count: int) -> None:
        pending.moved += count
        if pending.moved == len(pending.transfer.memory):
            del self._all[id(pending)]
            self.report(pending.transfer.operation, Status.OK, pending.moved)

    def _written(self, pending: _Pending, count: int, status: Status) -> None:
        if status is Status.OK:
            self.written_bytes += count
            self._moved(pending, count)
        else:
            pending.status = status

    def read(self, place: int) -> None:
        """The Read in `place` has moved its bytes."""
        if place in self._outstanding:
            pending, count = self._outstanding.pop(place)
            self.read_bytes += count
            self._moved(pending, count)

    def read_failed(self, place: int, status: Status) -> None:
        if place in self._outstanding and status is not Status.FLUSHED:
            self._outstanding[place][0].status = status

    def end(self) -> None:
        """The queue pair is gone: reports what was not finished."""
        while self._all:
            pending = self._all.pop(next(iter(self._all)))
            self.report(pending.transfer.operation, pending.status, pending.moved)
