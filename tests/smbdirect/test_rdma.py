"""RDMA Read and Write along buffer descriptors, and windows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smbdirect.close_reason import CloseReason
from smbdirect.connection import Config, Role
from smbdirect.events import (
    Deliver,
    Expose,
    Exposed,
    Invalidated,
    Limits,
    Post,
    Revoked,
    Transferred,
)
from smbdirect.pdu import BufferDescriptor, DataTransfer
from smbdirect.rdma import Direction
from smbdirect.sendqueue import Opcode, Status, Work
from tests.smbdirect.driven import REGION_SIZE, REQUEST, Both, closed, messages, sent, told

Make = Callable[..., Both]
READ, WRITE = Direction.READ, Direction.WRITE
FAR = BufferDescriptor(1 << 40, 0xABCD01, 1 << 20)


def works(both: Both) -> list[Work]:
    return [posted.work for posted in both.posted]


def finished(both: Both) -> list[Transferred]:
    return [action for action in both.did if isinstance(action, Transferred)]


def test_write_and_message_leave_in_one_call(make: Make) -> None:
    both = make()
    both.cork()
    both.rdma(WRITE, 0, 40000, [FAR])
    both.send(bytes(80), invalidate=FAR.token)
    both.uncork()
    (post,) = (action for action in both.did if isinstance(action, Post))
    assert [work.opcode for work in post.chain] == [Opcode.WRITE, Opcode.SEND_INVALIDATE]
    assert [work.signalled for work in post.chain] == [False, True]


def test_write_is_done_when_a_later_send_completes(make: Make) -> None:
    both = make()
    both.cork()
    both.rdma(WRITE, 0, 40000, [FAR])
    both.send(bytes(80))
    both.uncork()
    both.finish(both.posted[1])
    both.deliver()
    assert finished(both) == [Transferred(1, Status.OK, 40000)]


def test_pieces_follow_descriptors_and_the_device_limit(make: Make) -> None:
    both = make(limits=Limits(transfer_bytes=1000))
    descriptors = [BufferDescriptor(100, 1, 1500), BufferDescriptor(9000, 2, 300), FAR]
    both.rdma(WRITE, 8, 2500, descriptors)
    assert [(w.remote_offset, w.remote_token, len(w.memory)) for w in works(both)] == [
        (100, 1, 1000),
        (1100, 1, 500),
        (9000, 2, 300),
        (FAR.offset, FAR.token, 700),
    ]


def test_nothing_is_written_beyond_the_length(make: Make) -> None:
    both = make()
    both.rdma(WRITE, 0, 80, [FAR, FAR])
    assert [len(work.memory) for work in works(both)] == [80]


@pytest.mark.parametrize(
    ("length", "descriptors"),
    [
        (0, [FAR]),
        (100, []),
        (101, [BufferDescriptor(0, 1, 100)]),
        (100, [BufferDescriptor(0, 1, 100), BufferDescriptor(0, 1, 0)]),
        (100, [BufferDescriptor((1 << 64) - 99, 1, 100)]),
        (257, [BufferDescriptor(0, 1, 1)] * 257),
        (REGION_SIZE, [FAR]),
    ],
)
@pytest.mark.parametrize("direction", Direction)
def test_refused(
    make: Make, direction: Direction, length: int, descriptors: list[BufferDescriptor]
) -> None:
    both = make(config=Config(max_read_write_size=REGION_SIZE - 1))
    assert not both.rdma(direction, 0, length, descriptors)
    assert not both.posted


def test_message_does_not_overtake_a_write(make: Make) -> None:
    both = make(limits=Limits(send_queue=4, transfer_bytes=1000))
    both.rdma(WRITE, 0, 6000, [FAR])
    both.send(b"after")
    assert [work.opcode for work in works(both)] == [Opcode.WRITE] * 4
    assert both.facts()["stalls_send_queue"] == 1
    both.finish(both.posted[3])
    both.deliver()
    assert [work.opcode for work in works(both)] == [Opcode.WRITE, Opcode.WRITE, Opcode.SEND]


def test_write_does_not_overtake_a_message(make: Make) -> None:
    both = make(negotiated=False)
    both.arrive(REQUEST.pack())
    both.deliver()
    both.run()
    both.send(b"waits for a credit")
    both.rdma(WRITE, 0, 100, [FAR])
    assert not both.posted
    told(both, DataTransfer(255, 10))
    assert [work.opcode for work in works(both)] == [Opcode.SEND, Opcode.WRITE]


def test_reads_stay_within_the_depth_and_hold_up_nothing(make: Make) -> None:
    both = make(limits=Limits(initiator_depth=2, transfer_bytes=1000))
    both.rdma(READ, 0, 5000, [FAR])
    both.rdma(READ, 8000, 1000, [FAR])
    both.send(b"goes at once")
    assert [work.opcode for work in works(both)] == [Opcode.READ, Opcode.READ, Opcode.SEND]
    assert both.facts()["stalls_read_depth"] == 1
    both.run()
    assert both.facts()["rdma_read_bytes"] == 6000


def test_reads_that_finish_in_another_order(make: Make) -> None:
    both = make(limits=Limits(transfer_bytes=1000))
    both.rdma(READ, 0, 2000, [FAR])
    both.rdma(READ, 4000, 1000, [FAR])
    both.finish(both.posted[2], data=b"C" * 1000)
    both.deliver()
    assert finished(both) == [Transferred(2, Status.OK, 1000)]
    both.finish(both.posted[1], data=b"B" * 1000)
    both.finish(both.posted[0], data=b"A" * 1000)
    both.deliver()
    assert finished(both) == [Transferred(1, Status.OK, 2000)]
    assert both.memory[:2000] == b"A" * 1000 + b"B" * 1000


def test_read_is_not_done_by_a_send_after_it(make: Make) -> None:
    both = make()
    both.rdma(READ, 0, 1000, [FAR])
    both.send(b"x")
    both.finish(both.posted[1])
    both.deliver()
    assert not finished(both)


@pytest.mark.parametrize("direction", Direction)
def test_refusal_by_the_peer_ends_the_connection(make: Make, direction: Direction) -> None:
    both = make()
    both.rdma(direction, 0, 1000, [FAR])
    both.rdma(direction, 2000, 1000, [FAR])
    both.finish(both.posted[0], Status.REMOTE_ACCESS)
    both.deliver()
    assert [(one.operation, one.status) for one in finished(both)] == [
        (1, Status.REMOTE_ACCESS),
        (2, Status.FLUSHED),
    ]
    assert both.facts()["state"] == 5


def test_loss_reports_every_transfer_once(make: Make) -> None:
    both = make(limits=Limits(send_queue=8, initiator_depth=2, transfer_bytes=1000))
    for place in range(6):
        both.rdma(WRITE if place % 2 else READ, 0, 3000, [FAR])
    both.lose()
    assert closed(both).reason is CloseReason.PEER_LOST
    assert [one.operation for one in finished(both)] == [1, 2, 3, 4, 5, 6]


def test_at_most_1024_transfers(make: Make) -> None:
    both = make()
    assert all(both.rdma(READ, 0, 1, [FAR]) for _ in range(1024))
    assert not both.rdma(READ, 0, 1, [FAR])


def test_send_queue_is_never_overrun(make: Make) -> None:
    """The queue pair refuses what is too much, and the engine ends then: it must count for itself."""
    both = make(limits=Limits(send_queue=5, initiator_depth=3, transfer_bytes=100))
    for _ in range(10):
        both.rdma(READ, 0, 500, [FAR])
        both.rdma(WRITE, 0, 500, [FAR])
        both.send(bytes(30000))
    while both.posted:
        assert len(both.posted) <= 5
        both.run()
        told(both, DataTransfer(255, 20))
    assert both.facts()["messages_sent"] == 10
    assert both.facts()["rdma_written_bytes"] == both.facts()["rdma_read_bytes"] == 5000


# Windows.


def exposed(both: Both) -> Exposed:
    (one,) = (action for action in both.did if isinstance(action, Exposed))
    return one


def test_expose_and_revoke(make: Make) -> None:
    both = make(Role.CLIENT)
    assert both.expose(100, 5000, 3)
    both.deliver()
    window = exposed(both)
    assert window.status is Status.OK
    assert window.descriptor
    assert window.descriptor.length == 5000
    assert both.revoke(window.descriptor.token)
    assert not both.revoke(window.descriptor.token)
    both.deliver()
    assert both.did == [Revoked(2, Status.OK)]


def test_an_exposure_that_the_peer_invalidated_is_told_once_and_before_its_message(
    make: Make,
) -> None:
    both = make(Role.CLIENT)
    both.expose(0, 100, 3)
    both.deliver()
    (token,) = both.tokens
    answer = DataTransfer(255, 0, payload=b"answer").pack()
    assert both.arrive_invalidating(answer, token)
    both.deliver()
    assert both.did[:2] == [Invalidated(token), Deliver(b"answer")]
    assert both.arrive_invalidating(answer, token)
    both.deliver()
    assert Invalidated(token) not in both.did
    assert both.revoke(token)
    both.deliver()
    assert both.did == [Revoked(2, Status.OK)]
    assert not both.arrive_invalidating(answer, token)


def test_an_invalidation_of_what_is_being_revoked_is_not_told(make: Make) -> None:
    both = make(Role.CLIENT)
    both.expose(0, 100, 3)
    both.deliver()
    (token,) = both.tokens
    assert both.arrive_invalidating(DataTransfer(255, 0, payload=b"answer").pack(), token)
    assert both.revoke(token)
    both.deliver()
    assert Invalidated(token) not in both.did


def test_exposures_wait_for_the_send_queue(make: Make) -> None:
    both = make(Role.CLIENT, limits=Limits(send_queue=4))
    for _ in range(6):
        assert both.expose(0, 100, 1)
    both.deliver()
    kinds = [type(action) for action in both.did]
    assert kinds == [Exposed] * 4 + [Expose] * 2 + [Exposed] * 2


@pytest.mark.parametrize(("length", "access"), [(0, 1), (10, 0), (10, 4)])
def test_exposure_refused(make: Make, length: int, access: int) -> None:
    assert not make(Role.CLIENT).expose(0, length, access)


def test_loss_reports_unfinished_windows(make: Make) -> None:
    both = make(Role.CLIENT, limits=Limits(send_queue=4))
    both.expose(0, 100, 1)
    both.deliver()
    token = exposed(both).descriptor.token  # type: ignore[union-attr]
    for _ in range(3):
        both.send(b"x")
    both.revoke(token)
    both.expose(0, 100, 1)
    both.lose()
    both.deliver()
    assert not messages(both)
    assert not sent(both)
    assert Exposed(3, Status.FLUSHED, None) in both.did
