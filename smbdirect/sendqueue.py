"""What lies on the queue pair's send queue, and chains of work requests on their way there.

Sends and Writes take effect in order, and most of them are not signalled: the last of every chain is, and one in
SIGNAL_EVERY, and its completion vouches for all before it. So they are numbered in the order of posting, and a
completion's number says how far the queue may be emptied. Reads, exposures and revocations complete one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum

from smbdirect.pdu import Buffer

SEND_QUEUE = 512
"""Work requests that the send queue is asked to hold: Sends for 255 credits, and as many Writes, Reads and binds."""
SIGNAL_EVERY = 16
"""Sends and Writes; what they hold comes back while a long chain is under way."""
CHAIN_MAX = 64
"""Work requests handed over in one call."""


class Opcode(IntEnum):
    """Those of csrc/fabric.h."""

    SEND = 0
    SEND_INVALIDATE = 1
    WRITE = 2
    READ = 3
    RECEIVE = 4
    EXPOSE = 5
    REVOKE = 6


class Tag(IntEnum):
    """What kind of request a completion is of; its index says which."""

    RECEIVE = 1
    ORDERED = 2
    READ = 3
    EXPOSE = 4
    REVOKE = 5


class Status(IntEnum):
    """What became of a request; those of csrc/fabric.h."""

    OK = 0
    FLUSHED = 1
    REMOTE_ACCESS = 2
    LOCAL_ERROR = 3
    TRANSPORT_ERROR = 4


@dataclass(frozen=True, slots=True)
class Work:
    """One request for the send queue."""

    tag: Tag
    index: int
    opcode: Opcode
    memory: Buffer
    """What is sent or written, or where a Read's bytes go."""
    signalled: bool
    remote_offset: int = 0
    remote_token: int = 0


Done = Callable[[Status], None]
"""Is told what became of a Send or Write."""


@dataclass(slots=True)
class SendQueue:
    limit: int = SEND_QUEUE
    used: int = 0
    next: int = 0
    """The number of the next Send or Write."""
    unsignalled: int = 0
    _ordered: deque[tuple[int, Done]] = field(default_factory=deque)
    _chain: list[Work] = field(default_factory=list)
    _chains: list[tuple[Work, ...]] = field(default_factory=list)

    def has_room(self) -> bool:
        return self.used < self.limit

    def add_ordered(
        self, opcode: Opcode, memory: Buffer, done: Done, remote_offset: int = 0, token: int = 0
    ) -> None:
        """A Send or Write; `done` is called when it is known to be carried out, or to have failed."""
        self._make_room()
        self.unsignalled += 1
        signalled = self.unsignalled >= SIGNAL_EVERY
        if signalled:
            self.unsignalled = 0
        self._ordered.append((self.next, done))
        self._add(
            Work(Tag.ORDERED, self.next, opcode, memory, signalled, remote_offset, token),
        )
        self.next += 1

    def add_read(self, place: int, memory: Buffer, remote_offset: int, token: int) -> None:
        self._make_room()
        self._add(Work(Tag.READ, place, Opcode.READ, memory, True, remote_offset, token))

    def _make_room(self) -> None:
        if len(self._chain) == CHAIN_MAX:
            self._end_chain()

    def _add(self, work: Work) -> None:
        self._chain.append(work)
        self.used += 1

    def _end_chain(self) -> None:
        for place in reversed(range(len(self._chain))):
            if self._chain[place].tag is Tag.ORDERED:
                self._chain[place] = replace(self._chain[place], signalled=True)
                self.unsignalled = 0
                break
        if self._chain:
            self._chains.append(tuple(self._chain))
        self._chain.clear()

    def take_chains(self) -> list[tuple[Work, ...]]:
        """What is to be posted now, one call for each chain."""
        self._end_chain()
        chains, self._chains = self._chains, []
        return chains

    def retire(self, number: int) -> None:
        """This one was carried out, and with it all Sends and Writes posted before it."""
        if number >= self.next:
            return
        while self._ordered and self._ordered[0][0] <= number:
            self.used -= 1
            self._ordered.popleft()[1](Status.OK)

    def failed(self, number: int, status: Status) -> None:
        for other, done in self._ordered:
            if other == number:
                done(status)

    def finish(self) -> None:
        """One Read, exposure or revocation completed."""
        self.used -= 1
