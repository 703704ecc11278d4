"""Any sequence of events makes the C engine and the reference post, deliver and arm the same.

The peer is mostly a decent one: it sends only with credits, and segments that add up. Now and then it is not.
"""

from __future__ import annotations

import functools
from types import ModuleType

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from smbdirect.close_reason import CloseReason
from smbdirect.connection import SECOND, Config, Role, State
from smbdirect.events import Limits
from smbdirect.pdu import (
    BufferDescriptor,
    DataTransfer,
    NegotiateRequest,
    NegotiateResponse,
    PrivateData,
)
from smbdirect.rdma import Direction
from smbdirect.sendqueue import Status
from tests.effort import examples
from tests.smbdirect.driven import REGION_SIZE, Both, build

engine = functools.cache(build)

credit_counts = st.integers(4, 12) | st.integers(4, 255)
segment_sizes = st.integers(128, 400) | st.integers(128, 9000)
timeouts = st.integers(1, 50).map(lambda seconds: seconds * SECOND)
configs = st.builds(
    Config,
    receive_credit_max=credit_counts,
    send_credit_target=credit_counts,
    max_send_size=segment_sizes,
    max_receive_size=segment_sizes,
    max_fragmented_size=st.just(131072),
    max_read_write_size=st.integers(1000, REGION_SIZE),
    read_depth=st.integers(1, 6),
    negotiate_timeout=timeouts,
    idle_timeout=timeouts,
    keepalive_interval=timeouts,
    keepalive_timeout=timeouts,
    send_timeout=timeouts,
)
limits = st.builds(
    Limits,
    send_queue=st.integers(4, 20) | st.integers(4, 600),
    receive_queue=st.integers(4, 300),
    initiator_depth=st.integers(1, 8),
    transfer_bytes=st.integers(100, 5000),
)
private_data = st.none() | st.builds(PrivateData, st.integers(0, 10), st.integers(0, 10)).map(
    PrivateData.pack
)
descriptor_lists = st.lists(
    st.builds(BufferDescriptor, st.integers(0, 1 << 40), st.integers(0, 0xFFFFFFFF),
              st.integers(1, 9000)),
    min_size=1,
    max_size=6,
)  # fmt: skip


class Engines(RuleBasedStateMachine):
    both: Both | None = None
    misfortune = False
    """Whether things happen that end a connection. Without them sequences are long."""
    announced = 0
    """Bytes that the peer's unfinished message still lacks."""

    @initialize(
        role=st.sampled_from(Role),
        config=configs,
        limits=limits,
        private_data=private_data,
        negotiated=st.integers(0, 9),
        misfortune=st.integers(0, 2).map(lambda number: number == 2),
        wanted=st.integers(1, 12) | st.integers(1, 300),
        granted=st.integers(1, 20) | st.integers(1, 255),
    )
    def create(
        self,
        role: Role,
        config: Config,
        limits: Limits,
        private_data: bytes | None,
        negotiated: int,
        misfortune: bool,
        wanted: int,
        granted: int,
    ) -> None:
        module: ModuleType = engine()
        self.both = Both(module, role, config, limits, private_data)
        self.misfortune = misfortune
        self.both.establish()
        if negotiated:
            self.negotiate(wanted, config.max_receive_size, 8192, granted, REGION_SIZE)

    def teardown(self) -> None:
        if self.both is None:
            return
        self.both.lose()
        self.both.deliver()
        assert self.both.state is State.CLOSED
        self.both.destroy()

    def _in(self, *states: State) -> bool:
        return self.both is not None and self.both.state in states

    def _alive(self) -> bool:
        return self.both is not None and not self.both.closed

    # The peer.

    @precondition(lambda self: self._in(State.NEGOTIATING))
    @rule(
        wanted=st.integers(1, 12) | st.integers(1, 300),
        send=segment_sizes,
        receive=segment_sizes,
        granted=st.integers(1, 20) | st.integers(1, 255),
        read_write=st.integers(1, REGION_SIZE),
    )
    def negotiate(
        self, wanted: int, send: int, receive: int, granted: int, read_write: int
    ) -> None:
        if self.both.role is Role.SERVER:
            message = NegotiateRequest(wanted, send, receive, 131072).pack()
        else:
            send = min(send, self.both.python.max_receive_size)
            message = NegotiateResponse(
                wanted, granted, 0, read_write, send, receive, 131072
            ).pack()
        self.both.arrive(message)
        self.both.deliver()
        if self.both.role is Role.SERVER:  # a client's first message grants
            self.transfer(wanted, granted, 0, 0, 0, 1)

    @precondition(lambda self: self.misfortune and self._in(State.NEGOTIATING))
    @rule(
        version=st.sampled_from([0, 0x100, 0x101]),
        wanted=st.integers(0, 1),
        rest=st.lists(st.sampled_from([0, 1, 127, 128, 8192, 131072]), min_size=4, max_size=4),
    )
    def negotiate_badly(self, version: int, wanted: int, rest: list[int]) -> None:
        if self.both.role is Role.SERVER:
            message = NegotiateRequest(wanted, *rest[:3], version, 0x100).pack()
        else:
            message = NegotiateResponse(wanted, 1, *rest, 131072, negotiated_version=version).pack()
        self.both.arrive(message)

    @precondition(lambda self: self._in(State.ESTABLISHED, State.CLOSING))
    @rule(
        wanted=st.integers(1, 12) | st.integers(1, 300),
        granted=st.integers(0, 8) | st.integers(0, 100),
        flags=st.sampled_from([0, 0, 0, 1]),
        length=st.integers(0, 1) | st.integers(0, 9000),
        more=st.just(0) | st.integers(0, 20000),
        repeat=st.integers(1, 3) | st.integers(1, 100),
    )
    def transfer(
        self, wanted: int, granted: int, flags: int, length: int, more: int, repeat: int
    ) -> None:
        """A burst of messages, as far as credits go."""
        for _ in range(min(repeat, self.both.python.credits.receive, self.both.receives)):
            length = min(length, self.both.python.max_receive_size - 24)
            if self.announced:
                length = min(length, self.announced)
                more = self.announced - length
            if length:
                self.announced = more
            message = DataTransfer(wanted, granted, flags, more, bytes(length)).pack()
            self.both.arrive(message)

    @precondition(lambda self: self.misfortune and self._in(State.ESTABLISHED))
    @rule(
        wanted=st.integers(0, 2),
        granted=st.integers(0, 3) | st.just(0xFFFF),
        flags=st.integers(0, 3),
        more=st.sampled_from([0, 1, 131072, 0xFFFFFFFF]),
        length=st.integers(0, 200),
    )
    def transfer_badly(self, wanted: int, granted: int, flags: int, more: int, length: int) -> None:
        self.both.arrive(DataTransfer(wanted, granted, flags, more, bytes(length)).pack())

    @precondition(lambda self: self.misfortune and self._in(State.NEGOTIATING, State.ESTABLISHED))
    @rule(message=st.binary(max_size=40))
    def babble(self, message: bytes) -> None:
        self.both.arrive(message)

    # The queue pair.

    @rule()
    def deliver(self) -> None:
        self.both.deliver()

    @precondition(lambda self: self.both is not None and self.both.posted)
    @rule(data=st.data())
    def finish_one(self, data: st.DataObject) -> None:
        posted = data.draw(st.sampled_from(self.both.posted))
        self.both.finish(posted, data=b"\xaa" * len(posted.work.memory))

    @precondition(lambda self: self.both is not None and self.both.posted)
    @rule()
    def finish_all(self) -> None:
        for posted in list(self.both.posted):
            if posted in self.both.posted:
                self.both.finish(posted, data=b"\xbb" * len(posted.work.memory))
        self.both.deliver()

    @precondition(lambda self: self.misfortune and self.both.posted)
    @rule(data=st.data(), status=st.sampled_from([Status.REMOTE_ACCESS, Status.TRANSPORT_ERROR]))
    def fail_one(self, data: st.DataObject, status: Status) -> None:
        self.both.finish(data.draw(st.sampled_from(self.both.posted)), status)

    @precondition(lambda self: self._alive() and self.misfortune)
    @rule(reason=st.sampled_from([CloseReason.BY_PEER, CloseReason.PEER_LOST]))
    def lose(self, reason: CloseReason) -> None:
        self.both.lose(reason)

    # The owner.

    @precondition(lambda self: self._alive())
    @rule(
        length=st.integers(0, 500) | st.integers(0, 5000) | st.integers(0, 131073),
        invalidate=st.none() | st.integers(0, 0xFFFFFFFF),
    )
    def send(self, length: int, invalidate: int | None) -> None:
        self.both.send(bytes(range(256)) * (length // 256) + bytes(length % 256), invalidate)

    @precondition(lambda self: self._alive())
    @rule(
        direction=st.sampled_from(Direction),
        offset=st.integers(0, REGION_SIZE),
        share=st.integers(0, 110),
        descriptors=descriptor_lists,
    )
    def rdma(
        self, direction: Direction, offset: int, share: int, descriptors: list[BufferDescriptor]
    ) -> None:
        """`share`: percent of what the descriptors cover."""
        total = sum(descriptor.length for descriptor in descriptors)
        length = min(total * share // 100, REGION_SIZE - offset)
        self.both.rdma(direction, offset, length, descriptors)

    @precondition(lambda self: self._alive())
    @rule(offset=st.integers(0, 60000), length=st.integers(0, 5000), access=st.integers(0, 4))
    def expose(self, offset: int, length: int, access: int) -> None:
        self.both.expose(offset, length, access)
        self.both.deliver()

    @precondition(lambda self: self._alive())
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        self.both.revoke(data.draw(st.sampled_from([*self.both.tokens, 7])))

    @precondition(lambda self: self._in(State.ESTABLISHED) and self.both.tokens)
    @rule(data=st.data())
    def invalidate(self, data: st.DataObject) -> None:
        """A message of one segment, or the rest of one, ends an exposure; also one that has ended."""
        if not self.both.python.credits.receive:
            return
        length = min(self.announced or 1, self.both.python.max_receive_size - 24)
        message = DataTransfer(4, 0, 0, max(self.announced - length, 0), bytes(length)).pack()
        token = data.draw(st.sampled_from(self.both.tokens))
        if self.both.arrive_invalidating(message, token):
            self.announced = max(self.announced - length, 0)
        self.both.deliver()

    @precondition(lambda self: self.both is not None and self.both.delivered)
    @rule(count=st.integers(1, 20))
    def consume(self, count: int) -> None:
        for number in list(self.both.delivered)[:count]:
            self.both.consume(number)

    @precondition(lambda self: self._alive())
    @rule(
        lengths=st.lists(st.integers(1, 2000), max_size=4),
        descriptors=descriptor_lists,
        invalidate=st.none() | st.integers(0, 0xFFFFFFFF),
    )
    def answer(
        self,
        lengths: list[int],
        descriptors: list[BufferDescriptor],
        invalidate: int | None,
    ) -> None:
        """Writes and the message after them, corked."""
        self.both.cork()
        for length in lengths:
            self.both.rdma(Direction.WRITE, length, length, descriptors)
        self.both.send(bytes(80), invalidate)
        self.both.uncork()

    @precondition(lambda self: self._alive())
    @rule(seconds=st.sampled_from([0, 0, 1, 3, 10, 60]))
    def wait(self, seconds: int) -> None:
        self.both.wait(seconds * SECOND)

    @precondition(lambda self: self._alive() and self.misfortune)
    @rule(graceful=st.booleans())
    def close(self, graceful: bool) -> None:
        self.both.close(graceful)


Engines.TestCase.settings = settings(
    max_examples=examples(120),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestEngines = Engines.TestCase
