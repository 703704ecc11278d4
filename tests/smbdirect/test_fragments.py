"""Segments out and messages in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smbdirect.close_reason import CloseReason
from smbdirect.connection import Role
from smbdirect.events import Post
from smbdirect.fragments import BrokenFragments, Incoming, Outgoing
from smbdirect.pdu import DataTransfer, NegotiateRequest, NegotiateResponse
from smbdirect.sendqueue import Opcode
from tests.smbdirect.driven import Both, closed, messages, sent, told, transfers

Make = Callable[..., Both]
CIFS = NegotiateRequest(255, 1364, 1364, 173910)


def test_payload_of_a_segment_is_what_the_peer_receives_less_the_header(make: Make) -> None:
    both = make(request=CIFS)
    both.send(bytes(3000))
    assert [(len(t.payload), t.remaining) for t in transfers(both)] == [
        (1340, 1660),
        (1340, 320),
        (320, 0),
    ]


def test_one_mebibyte_leaves_in_chains(make: Make) -> None:
    both = make()
    both.send(bytes(1 << 20))
    assert len(sent(both)) == 129
    chains = [len(action.chain) for action in both.did if isinstance(action, Post)]
    assert chains == [64, 64, 1]
    signalled = [posted.number for posted in both.posted if posted.work.signalled]
    assert len(signalled) <= 129 // 16 + 3


def test_larger_than_the_peer_takes(make: Make) -> None:
    both = make(request=CIFS)
    assert not both.send(bytes(173911))
    assert both.send(bytes(173910))


def test_nothing_comes_between_segments(make: Make) -> None:
    """Linux sent an empty message, or one of another thread, among them."""
    both = make(request=CIFS, granted=4)
    both.send(bytes(range(200)) * 50)
    both.send(b"second")
    told(both, DataTransfer(255, 0, flags=1))
    told(both, DataTransfer(255, 100))
    seen = [(len(t.payload), t.remaining) for t in transfers(both)]
    assert seen[-1] == (6, 0)
    assert [remaining for _, remaining in seen[:-1]] == sorted(
        (remaining for _, remaining in seen[:-1]), reverse=True
    )
    assert all(length for length, _ in seen)


def test_invalidate_rides_on_the_last_segment(make: Make) -> None:
    both = make(request=CIFS)
    both.send(bytes(3000), invalidate=0x1234)
    works = [posted.work for posted in both.posted]
    assert [work.opcode for work in works] == [Opcode.SEND, Opcode.SEND, Opcode.SEND_INVALIDATE]
    assert [work.remote_token for work in works] == [0, 0, 0x1234]


def test_segments_of_any_size_become_one_message(make: Make) -> None:
    """cifs.ko sends a segment for every piece of its buffers."""
    both = make()
    told(
        both,
        DataTransfer(255, remaining=148, payload=b"a" * 64),
        DataTransfer(255, remaining=100, payload=b"b" * 48),
        DataTransfer(255, remaining=999),  # empty: its numbers mean nothing
        DataTransfer(255, remaining=0, payload=b"c" * 100),
    )
    assert messages(both) == [b"a" * 64 + b"b" * 48 + b"c" * 100]


def test_many_messages_in_one_batch(make: Make) -> None:
    both = make()
    told(both, *[DataTransfer(255, payload=bytes([number])) for number in range(100)])
    assert messages(both) == [bytes([number]) for number in range(100)]


@pytest.mark.parametrize(
    "second",
    [
        DataTransfer(255, remaining=0, payload=b"xx"),
        DataTransfer(255, remaining=11, payload=b"x" * 90),
        DataTransfer(255, remaining=0, payload=b"x" * 101),
        DataTransfer(255, remaining=0xFFFFFFFF, payload=b"x" * 101),
    ],
)
def test_segments_that_do_not_add_up(make: Make, second: DataTransfer) -> None:
    both = make()
    told(both, DataTransfer(255, remaining=100, payload=b"x"), second)
    assert closed(both).reason is CloseReason.PROTOCOL_ERROR


@pytest.mark.parametrize("remaining", [1 << 20, 0xFFFFFFFF])
def test_message_larger_than_announced_to_the_peer(make: Make, remaining: int) -> None:
    both = make()
    told(both, DataTransfer(255, remaining=remaining, payload=b"x"))
    assert closed(both).reason is CloseReason.PROTOCOL_ERROR


def test_message_of_the_largest_size(make: Make) -> None:
    both = make(Role.CLIENT, response=NegotiateResponse(255, 255, 0, 1, 8192, 8192, 1 << 20))
    left = 1 << 20
    while left:
        length = min(left, 8168)
        left -= length
        told(both, DataTransfer(255, remaining=left, payload=bytes(length)))
        both.run() if left else None
    assert [len(message) for message in messages(both)] == [1 << 20]


def test_outgoing_cuts_in_order() -> None:
    outgoing = Outgoing()
    outgoing.add(b"abcde", None)
    outgoing.add(b"f", 7)
    cut = [outgoing.cut(2) for _ in range(4)]
    assert [(bytes(s.payload), s.remaining, s.invalidate) for s in cut] == [
        (b"ab", 3, None),
        (b"cd", 1, None),
        (b"e", 0, None),
        (b"f", 0, 7),
    ]
    assert not outgoing
    assert outgoing.bytes == 0
    assert outgoing.sent == 2


def test_incoming_refuses_what_is_too_large() -> None:
    with pytest.raises(BrokenFragments):
        Incoming(10).add(DataTransfer(1, remaining=10, payload=b"x"))
