"""One SMB Direct connection, either role: [MS-SMBD] on top of one queue pair.

The reference engine: no I/O and no clock. It is driven by
  - what the queue pair tells: `established`, `completions`, `disconnected`;
  - what its owner asks: `send`, `rdma`, `expose`, `revoke`, `consumed`, `close`;
  - the time: `deadline` says when `on_time` wants to be called.
Every call returns the actions (events.py) that follow from it, in order. csrc/smbd_connection.c is the same engine in
C, with the same states and names; property tests feed both the same events and compare what they post, deliver and arm.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

from smbdirect import pdu
from smbdirect.close_reason import CloseReason
from smbdirect.credits import CREDITS_MIN, Credits
from smbdirect.events import (
    Action,
    Closed,
    Completion,
    Deliver,
    Disconnect,
    Established,
    Expose,
    Exposed,
    Invalidated,
    Limits,
    Post,
    PostReceives,
    Revoke,
    Revoked,
    Transferred,
    Writable,
)
from smbdirect.fragments import BrokenFragments, Incoming, Outgoing, Segment, cost
from smbdirect.pdu import Buffer, DataTransfer, Malformed
from smbdirect.rdma import READ_DEPTH_MAX, Rdma, Refused, Transfer
from smbdirect.sendqueue import Opcode, SendQueue, Status, Tag
from smbdirect.windows import Windows, WindowState

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = 1_000_000_000
"""Times are nanoseconds of any clock that starts above 0."""
SEND_HIGH_WATER = 1 << 20
"""Bytes of messages waiting for credits, above which the owner should stop."""
SEND_LOW_WATER = 256 << 10
UNCONSUMED_MAX = 4 << 20
"""Bytes delivered and not consumed, above which no more receives are granted."""


class Role(Enum):
    CLIENT = "the active side: sends the Negotiate Request"
    SERVER = "the passive side: answers it"


class State(IntEnum):
    CONNECTING = 0
    """The queue pair is not established yet."""
    NEGOTIATING = 1
    """Client: the request is sent; server: waits for it."""
    ESTABLISHED = 2
    """Messages flow."""
    CLOSING = 3
    """What is queued is still sent, nothing new is taken; then: dead."""
    DEAD = 4
    """Nothing is posted any more; the queue pair was asked to end."""
    CLOSED = 5
    """The queue pair has ended; the owner was told."""


class Ping(Enum):
    """Keepalive of the client role ([MS-SMBD] 3.1.1.1 KeepaliveRequested)."""

    NONE = "nothing is asked"
    DUE = "the next message that is sent asks for a response"
    SENT = "any message that arrives is the response"


@dataclass(frozen=True, slots=True)
class Config:
    """What an administrator may set; names are those of [MS-SMBD] 3.1.1.1, times are nanoseconds."""

    receive_credit_max: int = 255
    send_credit_target: int = 200
    max_send_size: int = 8192
    max_receive_size: int = 8192
    max_fragmented_size: int = 1 << 20
    max_read_write_size: int = 8 << 20
    read_depth: int = 32
    negotiate_timeout: int = 10 * SECOND
    idle_timeout: int = 360 * SECOND
    keepalive_interval: int = 120 * SECOND
    keepalive_timeout: int = 30 * SECOND
    send_timeout: int = 60 * SECOND

    def __post_init__(self) -> None:
        sizes = self.max_send_size, self.max_receive_size
        counts = self.receive_credit_max, self.send_credit_target
        if not all(pdu.RECEIVE_SIZE_MIN <= size <= 65536 for size in sizes):
            raise ValueError("a segment is 128 to 65536 bytes")
        if not pdu.FRAGMENTED_SIZE_MIN <= self.max_fragmented_size <= 0xFFFFFF:
            raise ValueError("a reassembled message is at most 131072 to 16777215 bytes")
        if not all(CREDITS_MIN <= count <= 255 for count in counts):
            raise ValueError("credits are 4 to 255")
        if not 1 <= self.read_depth <= READ_DEPTH_MAX:
            raise ValueError("RDMA Reads outstanding are 1 to 255")


@dataclass(slots=True)
class Statistics:
    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    stalls_send_credit: int = 0
    stalls_send_queue: int = 0
    stalls_read_depth: int = 0
    stalls_unconsumed: int = 0


class Connection:
    """Takes events, gives back actions. The first ones are in `begin`."""

    def __init__(self, role: Role, config: Config, now: int) -> None:
        self.role = role
        self.config = config
        self.state = State.CONNECTING
        self.statistics = Statistics()
        self.max_send_size = config.max_send_size
        self.max_receive_size = config.max_receive_size
        self.max_fragmented_send_size = 0
        self.max_read_write_size = config.max_read_write_size
        self.credits = Credits(config.send_credit_target, config.receive_credit_max)
        self.rdma_transfers = Rdma(self._report)
        self.unconsumed = 0
        self._queue = SendQueue()
        self._outgoing = Outgoing()
        self._incoming = Incoming(config.max_fragmented_size)
        self._windows = Windows()
        self._send_slots = config.send_credit_target
        self._full = False
        self._answer_due = False
        self._ping = Ping.NONE
        self._created = now
        self._received = self._sent = self._pinged = self._closing = 0
        self._waiting = 0
        self._stalled: set[str] = set()
        self._reason = CloseReason.NONE
        self._words = ""
        self._actions: list[Action] = []
        self._held = 0

    def begin(self) -> list[Action]:
        """The receive for the negotiation, to be posted before the queue pair is accepted or as soon as it connects."""
        self._actions.append(PostReceives(1, self.config.max_receive_size))
        return self._take()

    def _take(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    @contextmanager
    def _held_until_done(self, now: int) -> Iterator[None]:
        """Posting waits until all that came at once is handled."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._held == 0:
            self._pump(now)

    # What the queue pair tells.

    def established(self, limits: Limits, now: int, private_data: Buffer = b"") -> list[Action]:
        """The queue pair is; negotiation begins. `private_data` is the peer's, on iWARP."""
        if self.state is not State.CONNECTING:
            return []
        depth = min(self.config.read_depth, limits.initiator_depth)
        if len(private_data) >= pdu.PrivateData.SIZE:
            depth = min(depth, pdu.PrivateData.parse(private_data).ird or depth)
        self.rdma_transfers.depth = depth
        self.rdma_transfers.transfer_bytes = limits.transfer_bytes
        self._queue.limit = min(self._queue.limit, limits.send_queue)
        self.credits.receive_max = min(self.credits.receive_max, limits.receive_queue)
        self.state = State.NEGOTIATING
        with self._held_until_done(now):
            if self.role is Role.CLIENT:
                self._send_request()
        return self._take()

    def completions(self, completions: Sequence[Completion], now: int) -> list[Action]:
        with self._held_until_done(now):
            for completion in completions:
                self._complete(completion, now)
        return self._take()

    def disconnected(self, reason: CloseReason, words: str, now: int) -> list[Action]:
        """The queue pair has ended, whoever ended it."""
        if self._reason is CloseReason.NONE:
            self._reason, self._words = reason, words
        self.state = State.CLOSED
        self.rdma_transfers.end()
        for window in self._windows.unfinished():
            if window.state in (WindowState.EXPOSE, WindowState.EXPOSING):
                self._actions.append(Exposed(window.operation, Status.FLUSHED, None))
            else:
                self._actions.append(Revoked(window.operation, Status.FLUSHED))
        self._outgoing.clear()
        self._actions.append(Closed(self._reason, self._words))
        return self._take()

    def _complete(self, completion: Completion, now: int) -> None:
        if completion.tag is Tag.RECEIVE:
            self._receive(completion, now)
        elif completion.status is not Status.OK:
            self._failed(completion)
        else:
            if self._waiting:
                self._waiting = now
            self._carried_out(completion)

    def _failed(self, completion: Completion) -> None:
        if completion.status is Status.FLUSHED:
            return
        if completion.tag is Tag.ORDERED:
            self._queue.failed(completion.index, completion.status)
        elif completion.tag is Tag.READ:
            self.rdma_transfers.read_failed(completion.index, completion.status)
        self._note_failure(completion.status)

    def _note_failure(self, status: Status) -> None:
        """The queue pair ends by itself after an error; it is only a matter of knowing the reason first."""
        if status is Status.REMOTE_ACCESS:
            self._make_dead(CloseReason.REMOTE_ACCESS, "the peer refused an RDMA Read or Write")
        elif status is Status.LOCAL_ERROR:
            self._make_dead(CloseReason.LIMIT, "the device failed a work request")
        elif status is Status.TRANSPORT_ERROR:
            self._make_dead(CloseReason.PEER_LOST, "the transport failed")

    def _carried_out(self, completion: Completion) -> None:
        if completion.tag is Tag.ORDERED:
            self._queue.retire(completion.index)
        elif completion.tag is Tag.READ:
            self._queue.finish()
            self.rdma_transfers.read(completion.index)
        elif completion.tag is Tag.EXPOSE and completion.descriptor:
            operation = self._windows.exposed(completion.index, completion.descriptor)
            if operation is not None:
                self._queue.finish()
                self._actions.append(Exposed(operation, Status.OK, completion.descriptor))
        elif completion.tag is Tag.REVOKE:
            operation = self._windows.revoked(completion.index)
            if operation is not None:
                self._queue.finish()
                self._actions.append(Revoked(operation, Status.OK))

    def _report(self, operation: int, status: Status, count: int) -> None:
        self._actions.append(Transferred(operation, status, count))

    # Receiving.

    def _receive(self, completion: Completion, now: int) -> None:
        if completion.status is not Status.OK:
            self._note_failure(completion.status)
            return
        if self.state >= State.DEAD:
            return
        token = completion.invalidated
        if token is not None and self._windows.invalidate(token):
            self._actions.append(Invalidated(token))
        try:
            if self.state <= State.NEGOTIATING:
                self._receive_negotiation(completion.message, now)
            else:
                self._receive_transfer(completion.message, now)
        except (Malformed, BrokenFragments) as error:
            self._make_dead(CloseReason.PROTOCOL_ERROR, str(error))

    def _receive_transfer(self, message: Buffer, now: int) -> None:
        """A data transfer message; [MS-SMBD] 3.1.5.8."""
        transfer = DataTransfer.parse(message)
        if len(message) > self.max_receive_size:
            raise Malformed("a message is longer than our MaxReceiveSize")
        if not self.credits.used():
            raise Malformed("the peer sent a message without a credit")
        if not self.credits.granted(transfer.credits_granted):
            raise Malformed("the peer granted more credits than receives can be posted")
        self.credits.receive_target = transfer.credits_requested
        self._received = now
        if transfer.credits_granted and self._waiting:
            self._waiting = now
        # Some answer a ping with a flag of their own: it is an answer, and needs none.
        if transfer.flags & pdu.RESPONSE_REQUESTED and self._ping is not Ping.SENT:
            self._answer_due = True
        self._ping = Ping.NONE
        if transfer.payload:
            whole = self._incoming.add(transfer)
            self.statistics.bytes_received += len(transfer.payload)
            if whole is not None:
                self._deliver(whole)

    def _deliver(self, message: bytes) -> None:
        self.statistics.messages_received += 1
        if self.state is State.ESTABLISHED:
            self.unconsumed += cost(message)
            self._actions.append(Deliver(message))

    # Negotiation ([MS-SMBD] 3.1.5.2, 3.1.5.6, 3.1.5.7): one message each way, outside of all credits.

    def _receive_negotiation(self, message: Buffer, now: int) -> None:
        if self.role is Role.SERVER:
            self._receive_request(pdu.NegotiateRequest.parse(message), now)
        else:
            self._receive_response(pdu.NegotiateResponse.parse(message), now)

    def _post_negotiation(self, message: bytes) -> None:
        self._send_slots -= 1
        self._queue.add_ordered(Opcode.SEND, message, self._sent_slot)
        self._actions.extend(Post(chain) for chain in self._queue.take_chains())

    def _send_request(self) -> None:
        config = self.config
        request = pdu.NegotiateRequest(
            credits_requested=config.send_credit_target,
            preferred_send_size=config.max_send_size,
            max_receive_size=config.max_receive_size,
            max_fragmented_size=config.max_fragmented_size,
        )
        self._post_negotiation(request.pack())

    def _receive_request(self, request: pdu.NegotiateRequest, now: int) -> None:
        if not request.min_version <= pdu.VERSION <= request.max_version:
            self._refuse_version(now)
            return
        words = _unacceptable_request(request)
        if words:
            self._make_dead(CloseReason.NEGOTIATION, words)
            return
        self.max_receive_size = max(
            pdu.RECEIVE_SIZE_MIN, min(self.max_receive_size, request.preferred_send_size)
        )
        self.max_send_size = min(self.max_send_size, request.max_receive_size)
        self.max_fragmented_send_size = request.max_fragmented_size
        self.credits.receive_target = request.credits_requested
        self._post_receives()
        response = pdu.NegotiateResponse(
            credits_requested=self.config.send_credit_target,
            credits_granted=self.credits.grant(),
            max_read_write_size=self.max_read_write_size,
            preferred_send_size=self.max_send_size,
            max_receive_size=self.max_receive_size,
            max_fragmented_size=self.config.max_fragmented_size,
        )
        self._post_negotiation(response.pack())
        self._negotiated(now)

    def _refuse_version(self, now: int) -> None:
        """The connection ends when the refusal is sent."""
        response = pdu.NegotiateResponse(status=pdu.STATUS_NOT_SUPPORTED, negotiated_version=0)
        self._post_negotiation(response.pack())
        self._reason = CloseReason.NEGOTIATION
        self._words = "the client does not speak SMB Direct version 1.0"
        self._closing = now
        self.state = State.CLOSING

    def _receive_response(self, response: pdu.NegotiateResponse, now: int) -> None:
        words = self._unacceptable_response(response)
        if words:
            self._make_dead(CloseReason.NEGOTIATION, words)
            return
        self.max_receive_size = max(pdu.RECEIVE_SIZE_MIN, response.preferred_send_size)
        self.max_send_size = min(self.max_send_size, response.max_receive_size)
        self.max_fragmented_send_size = response.max_fragmented_size
        self.max_read_write_size = response.max_read_write_size
        self.credits.send = response.credits_granted
        self.credits.receive_target = response.credits_requested
        self._negotiated(now)

    def _unacceptable_response(self, response: pdu.NegotiateResponse) -> str:
        if response.status != pdu.STATUS_SUCCESS:
            return "the server refused the negotiation"
        if response.negotiated_version != pdu.VERSION:
            return "the server chose a version of SMB Direct other than 1.0"
        if response.credits_requested == 0:
            return "the Negotiate Response asks for no credits"
        if response.credits_granted == 0:
            return "the Negotiate Response grants no credits"
        if response.max_receive_size < pdu.RECEIVE_SIZE_MIN:
            return "the Negotiate Response has a MaxReceiveSize below 128"
        if response.max_fragmented_size < pdu.FRAGMENTED_SIZE_MIN:
            return "the Negotiate Response has a MaxFragmentedSize below 131072"
        if response.preferred_send_size > self.max_receive_size:
            return "the Negotiate Response has a PreferredSendSize above our MaxReceiveSize"
        return ""

    def _negotiated(self, now: int) -> None:
        self._received = self._sent = now
        self.state = State.ESTABLISHED
        self._actions.append(Established())

    # What the owner asks.

    def send(self, message: Buffer, now: int, invalidate: int | None = None) -> list[Action]:
        """Queues a message; with `invalidate`, its last segment is a Send with Invalidate of this token."""
        self._must_be_established()
        if not len(message):
            raise Refused(errno.EINVAL)
        if len(message) > self.max_fragmented_send_size:
            raise Refused(errno.EMSGSIZE)
        with self._held_until_done(now):
            self._outgoing.add(message, invalidate)
        return self._take()

    def rdma(self, transfer: Transfer, now: int) -> list[Action]:
        """Queues a transfer. A Write and the messages queued after it take effect in order."""
        self._must_be_established()
        if len(transfer.memory) > self.max_read_write_size:
            raise Refused(errno.EINVAL)
        with self._held_until_done(now):
            self.rdma_transfers.add(transfer, self._outgoing.queued)
        return self._take()

    def expose(self, operation: int, memory: memoryview, access: int, now: int) -> list[Action]:
        self._must_be_established()
        with self._held_until_done(now):
            self._windows.expose(operation, memory, access)
        return self._take()

    def revoke(self, operation: int, token: int, now: int) -> list[Action]:
        self._must_be_established()
        with self._held_until_done(now):
            self._windows.revoke(operation, token)
        return self._take()

    def consumed(self, message: Buffer, now: int) -> list[Action]:
        """The owner is done with a delivered message: receives may be granted again."""
        with self._held_until_done(now):
            self.unconsumed -= cost(message)
        return self._take()

    def cork(self) -> None:
        """Until `uncork`, requests are only queued; then they are posted together."""
        self._held += 1

    def uncork(self, now: int) -> list[Action]:
        self._held -= 1
        if self._held == 0:
            self._pump(now)
        return self._take()

    def close(self, reason: CloseReason, graceful: bool, now: int) -> list[Action]:
        """With `graceful`, what is queued is sent first (until send_timeout); else the end comes at once."""
        if self.state >= State.DEAD or (graceful and self.state is State.CLOSING):
            return []
        if not graceful or self.state < State.ESTABLISHED:
            self._make_dead(reason, "closed on this side")
            return self._take()
        self._reason, self._words = reason, "closed on this side"
        self._closing = now
        self.state = State.CLOSING
        with self._held_until_done(now):
            pass
        return self._take()

    @property
    def queued_bytes(self) -> int:
        """What waits for credits; each message counts MESSAGE_OVERHEAD more than its data."""
        return self._outgoing.bytes

    def writable(self) -> bool:
        return self._outgoing.bytes < SEND_HIGH_WATER

    def _must_be_established(self) -> None:
        if self.state is not State.ESTABLISHED:
            raise Refused(errno.EPIPE)

    def _make_dead(self, reason: CloseReason, words: str) -> None:
        if self.state >= State.DEAD:
            return
        if self._reason is CloseReason.NONE:
            self._reason, self._words = reason, words
        self.state = State.DEAD
        self._actions.append(Disconnect())

    # The pump: what may be posted now is posted.

    def _pump(self, now: int) -> None:
        self._held += 1
        emptied = True
        while emptied and self.state in (State.ESTABLISHED, State.CLOSING):
            self._full = self._full or self._outgoing.bytes >= SEND_HIGH_WATER
            self._post_all(now)
            emptied = self._full and self._outgoing.bytes < SEND_LOW_WATER
            if emptied:
                self._full = False
                self._actions.append(Writable())
        if not self._work_waits():
            self._waiting = 0
            if self.state is State.CLOSING:
                self._make_dead(self._reason, self._words)
        elif not self._waiting:
            self._waiting = now
        self._held -= 1

    def _work_waits(self) -> bool:
        return bool(
            self._outgoing or self.rdma_transfers or self._windows.waits() or self._queue.used
        )

    def _post_all(self, now: int) -> None:
        """Receives first: a grant is for what is posted."""
        self._post_receives()
        for place, window in self._windows.post(self._queue):
            if window.state is WindowState.EXPOSING:
                self._actions.append(Expose(place, window.memory, window.access))
            elif window.descriptor:
                self._actions.append(Revoke(place, window.descriptor.token))
        self._post_reads()
        self._post_ordered(now)
        self._post_empty(now)
        self._actions.extend(Post(chain) for chain in self._queue.take_chains())

    def _note_stall(self, name: str, stalled: bool) -> None:
        if stalled and name not in self._stalled:
            setattr(self.statistics, name, getattr(self.statistics, name) + 1)
        (self._stalled.add if stalled else self._stalled.discard)(name)

    def _post_receives(self) -> None:
        """A reader that lags behind gets no more: the peer's credits run out, and its messages stay with it."""
        missing = self.credits.missing()
        stalled = missing > 0 and self.unconsumed > UNCONSUMED_MAX
        self._note_stall("stalls_unconsumed", stalled)
        if missing and not stalled:
            self._actions.append(PostReceives(missing, self.config.max_receive_size))
            self.credits.add_posted(missing)

    def _post_reads(self) -> None:
        rdma = self.rdma_transfers
        while rdma.read_waits() and rdma.read_is_possible() and self._queue.has_room():
            rdma.post_read(self._queue)
        self._note_stall("stalls_read_depth", rdma.read_waits() and not rdma.read_is_possible())

    def _post_ordered(self, now: int) -> None:
        """Writes and messages, in the order in which they were queued, until something is missing."""
        no_credit = no_room = False
        while not no_credit and not no_room:
            messages = self.rdma_transfers.next_write()
            write = messages is not None and messages <= self._outgoing.sent
            if not write and not self._outgoing:
                break
            if not self._queue.has_room() or (not write and not self._send_slots):
                no_room = True
            elif write:
                self.rdma_transfers.post_write(self._queue)
            elif not self.credits.may_send():
                no_credit = True
            else:
                self._post_segment(self._outgoing.cut(self.max_send_size - pdu.DATA_OFFSET), now)
        self._note_stall("stalls_send_credit", no_credit)
        self._note_stall("stalls_send_queue", no_room)

    def _post_segment(self, segment: Segment, now: int) -> None:
        self._post_transfer(segment.payload, segment.remaining, segment.invalidate, now)
        self.statistics.bytes_sent += len(segment.payload)
        self.statistics.messages_sent += segment.remaining == 0

    def _post_empty(self, now: int) -> None:
        """An empty message, when something has to be said and no message is there to carry it.

        One that is there and cannot go lacks what an empty one would lack as well; and nothing may come between its
        segments.
        """
        due = self._answer_due or self._ping is Ping.DUE or self.credits.peer_is_low()
        possible = self._queue.has_room() and self._send_slots and self.credits.may_send()
        if due and possible and not self._outgoing:
            self._post_transfer(b"", 0, None, now)

    def _post_transfer(
        self, payload: Buffer, remaining: int, invalidate: int | None, now: int
    ) -> None:
        """One data transfer message, with all that rides on it; pays for it."""
        flags = 0
        if self._ping is Ping.DUE:
            flags = pdu.RESPONSE_REQUESTED
            self._ping = Ping.SENT
            self._pinged = now
        granted = self.credits.spend()
        transfer = DataTransfer(self.credits.send_target, granted, flags, remaining, payload)
        self._answer_due = False
        self._sent = now
        self._send_slots -= 1
        opcode = Opcode.SEND if invalidate is None else Opcode.SEND_INVALIDATE
        self._queue.add_ordered(opcode, transfer.pack(), self._sent_slot, token=invalidate or 0)

    def _sent_slot(self, status: Status) -> None:
        """A Send was carried out: the memory that it was sent from is free."""
        if status is Status.OK:
            self._send_slots += 1

    # Time.

    def _timeouts(self) -> list[tuple[int, str]]:
        """All that may happen by itself in the present state: when, and why it ends the connection ("": it pings)."""
        config = self.config
        if self.state <= State.NEGOTIATING:
            return [(self._created + config.negotiate_timeout, "the negotiation took too long")]
        if self.state is State.CLOSING:
            words = "what was queued could not be sent in time"
            return [(self._closing + config.send_timeout, words)]
        if self.state is not State.ESTABLISHED:
            return []
        all_ = [(self._received + config.idle_timeout, "nothing was heard of the peer")]
        if self._waiting:
            words = "the peer gave no credit and completed nothing"
            all_.append((self._waiting + config.send_timeout, words))
        if self.role is Role.CLIENT and self._ping is Ping.NONE:
            all_.append((self._sent + config.keepalive_interval, ""))
        if self._ping is Ping.SENT:
            words = "the peer did not answer a keepalive request"
            all_.append((self._pinged + config.keepalive_timeout, words))
        return all_

    @property
    def deadline(self) -> int:
        """When `on_time` wants to be called; 0: never."""
        return min((when for when, _ in self._timeouts()), default=0)

    def on_time(self, now: int) -> list[Action]:
        timeouts = self._timeouts()
        with self._held_until_done(now):
            for when, words in timeouts:
                if when > now or self.state >= State.DEAD:
                    continue
                if words:
                    self._make_dead(CloseReason.TIMEOUT, words)
                else:
                    self._ping = Ping.DUE
        return self._take()


def _unacceptable_request(request: pdu.NegotiateRequest) -> str:
    if request.credits_requested == 0:
        return "the Negotiate Request asks for no credits"
    if request.max_receive_size < pdu.RECEIVE_SIZE_MIN:
        return "the Negotiate Request has a MaxReceiveSize below 128"
    if request.max_fragmented_size < pdu.FRAGMENTED_SIZE_MIN:
        return "the Negotiate Request has a MaxFragmentedSize below 131072"
    return ""
