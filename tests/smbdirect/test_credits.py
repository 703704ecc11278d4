"""Credits, and the peers that break their rules. Faults that kernels had are named where they are tested."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smbdirect.close_reason import CloseReason
from smbdirect.connection import Config, State
from smbdirect.events import Limits, PostReceives
from smbdirect.pdu import DataTransfer, NegotiateRequest
from tests.smbdirect.driven import REQUEST, Both, closed, messages, sent, told, transfers

Make = Callable[..., Both]
SMALL = NegotiateRequest(8, 8192, 8192, 1 << 20)


def test_last_credit_is_not_spent_without_a_grant(make: Make) -> None:
    """Linux before 2026 spent it, and both sides were silent for ever."""
    both = make(granted=2)
    told(both, DataTransfer(255))  # a receive becomes free: it can be granted once
    both.send(b"first")
    both.send(b"second")
    assert both.facts()["send_credits"] == 1
    assert both.facts()["queued_bytes"] > 0
    told(both, DataTransfer(255))
    assert [(transfer.credits_granted, transfer.payload) for transfer in transfers(both)] == [
        (1, b"second")
    ]


def test_receives_are_posted_before_the_message_that_grants_them(make: Make) -> None:
    both = make()
    told(both, DataTransfer(200, payload=b"x"))
    assert [type(action) for action in both.did if isinstance(action, PostReceives)]
    both.send(b"reply")
    assert transfers(both)[0].credits_granted == 200 - both.receives + 2


def test_grants_count_what_was_posted_not_what_is_missing(make: Make) -> None:
    """Linux granted "posted minus granted" while completions were on their way, and granted too much."""
    both = make(request=SMALL)
    for _ in range(3):
        assert both.arrive(DataTransfer(8, payload=b"x").pack())
    both.send(b"leaves before the three are handed over")
    assert transfers(both)[0].credits_granted == 1  # of the client's first message
    both.deliver()
    assert both.facts()["receive_credits"] == 5
    assert both.receives == 8


def test_peer_that_runs_low_is_granted_without_asking(make: Make) -> None:
    """Linux refilled only when the peer raised its target, and the peer starved."""
    both = make(request=SMALL)
    told(both, *[DataTransfer(8, payload=b"x")] * 4)
    assert not sent(both)
    told(both, DataTransfer(8, payload=b"x"))
    assert transfers(both) == [DataTransfer(200, 6)]
    assert both.facts()["receive_credits"] == 8


def test_grants_are_not_answered_with_grants(make: Make) -> None:
    both = make()
    for _ in range(100):
        told(both, DataTransfer(255, 1))
        assert not sent(both)


@pytest.mark.parametrize("target", [1, 2, 3])
def test_peer_with_few_credits_can_always_send(make: Make, target: int) -> None:
    """It may not spend its last credit without a grant, so it must never be left with one."""
    both = make(request=NegotiateRequest(target, 8192, 8192, 1 << 20))
    for _ in range(20):
        told(both, DataTransfer(target, 1, payload=b"x"))
        assert both.facts()["receive_credits"] >= min(2, target)
        both.run()


def test_never_more_credits_than_the_peer_wants(make: Make) -> None:
    both = make(request=SMALL)
    told(both, DataTransfer(3))
    both.send(b"x")
    assert transfers(both)[0].credits_granted == 0
    told(both, DataTransfer(300))
    both.send(b"x")
    assert both.facts()["receive_credits"] == 255


def test_larger_grants_than_asked_for_are_taken(make: Make) -> None:
    """cifs.ko 6.1 grants all its 255 receives, whatever is asked for."""
    both = make(config=Config(send_credit_target=16), granted=255)
    assert both.facts()["send_credits"] == 255


def test_receives_are_no_more_than_the_queue_pair_holds(make: Make) -> None:
    both = make(limits=Limits(receive_queue=10))
    assert both.facts()["receive_credits"] <= 10
    assert both.receives == 10


def test_messages_wait_for_credits_in_their_order(make: Make) -> None:
    both = make(granted=3)
    for number in range(5):
        both.send(bytes([number]))
    told(both, DataTransfer(255, 10))
    assert [bytes(transfer.payload) for transfer in transfers(both)] == [b"\2", b"\3", b"\4"]
    assert both.facts()["stalls_send_credit"] == 1


def test_owner_that_does_not_read_stops_the_grants(make: Make) -> None:
    both = make()
    for _ in range(1000):
        if not both.receives or not both.facts()["receive_credits"]:
            break
        told(both, DataTransfer(255, 1, payload=bytes(8168)))
        both.run()
    assert both.facts()["unconsumed_bytes"] < (4 << 20) + 256 * 8300
    assert both.facts()["stalls_unconsumed"] == 1
    assert both.facts()["receive_credits"] == 0
    for number in list(both.delivered):
        both.consume(number)
    assert both.facts()["receive_credits"] == 255


# Peers that break the rules.


def test_message_without_a_credit(make: Make) -> None:
    both = make(negotiated=False)
    both.arrive(REQUEST.pack())
    both.deliver()
    both.run()
    for _ in range(255):
        both.arrive(DataTransfer(255).pack())
    both.deliver()
    while both.facts()["receive_credits"]:
        both.arrive(DataTransfer(255).pack())
        both.deliver()
    assert both.arrive(DataTransfer(255).pack())
    assert closed(both).reason is CloseReason.PROTOCOL_ERROR


def test_zero_credits_requested(make: Make) -> None:
    both = make()
    told(both, DataTransfer(0))
    assert closed(both).words == "a data transfer message requests no credits"


def test_more_credits_than_receives_can_be(make: Make) -> None:
    both = make()
    told(both, DataTransfer(255, 0xFFFF))
    assert closed(both).reason is CloseReason.PROTOCOL_ERROR


def test_message_longer_than_agreed(make: Make) -> None:
    both = make(request=NegotiateRequest(255, 1364, 1364, 1 << 20))
    told(both, DataTransfer(255, payload=bytes(1341)))
    assert closed(both).words == "a message is longer than our MaxReceiveSize"


def test_flood_of_empty_messages_costs_nothing(make: Make) -> None:
    both = make()
    for _ in range(2000):
        told(both, DataTransfer(255, 0))
        both.run()
    assert both.state is State.ESTABLISHED
    assert not messages(both)
    assert both.facts()["unconsumed_bytes"] == 0
