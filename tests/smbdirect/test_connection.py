"""Negotiation, keepalive, timers and close. Every test drives both engines and compares them at each step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smbdirect.close_reason import CloseReason
from smbdirect.connection import SECOND, Config, Role, State
from smbdirect.events import Deliver, Established, Limits, Writable
from smbdirect.pdu import (
    STATUS_NOT_SUPPORTED,
    DataTransfer,
    NegotiateRequest,
    NegotiateResponse,
    PrivateData,
)
from smbdirect.sendqueue import Status
from tests.smbdirect.driven import REQUEST, RESPONSE, Both, closed, sent, told, transfers

Make = Callable[..., Both]

# Negotiation.


def test_server_answers_with_what_both_can(make: Make) -> None:
    both = make(negotiated=False)
    both.arrive(NegotiateRequest(255, 1364, 1364, 173910).pack())
    both.deliver()
    response = NegotiateResponse.parse(sent(both)[0])
    assert response == NegotiateResponse(200, 255, 0, 8 << 20, 1364, 1364, 1 << 20)
    assert Established() in both.did
    assert both.receives == 255


def test_server_may_not_send_before_it_is_granted_a_credit(make: Make) -> None:
    both = make(negotiated=False)
    both.arrive(REQUEST.pack())
    both.deliver()
    both.send(b"early")
    assert not sent(both)
    told(both, DataTransfer(255, 10))
    assert [transfer.payload for transfer in transfers(both)] == [b"early"]


def test_client_asks_and_grants_at_once(make: Make) -> None:
    both = make(Role.CLIENT, negotiated=False)
    assert NegotiateRequest.parse(sent(both)[0]) == REQUEST
    both.arrive(RESPONSE.pack())
    both.deliver()
    assert transfers(both) == [DataTransfer(200, 255)]


def test_server_names_its_version_and_leaves(make: Make) -> None:
    both = make(negotiated=False)
    both.arrive(NegotiateRequest(255, 8192, 8192, 1 << 20, 0x0200, 0x0300).pack())
    both.deliver()
    assert NegotiateResponse.parse(sent(both)[0]).status == STATUS_NOT_SUPPORTED
    assert both.state is State.CLOSING
    assert closed(both).reason is CloseReason.NEGOTIATION


@pytest.mark.parametrize(
    "request_",
    [
        NegotiateRequest(0, 8192, 8192, 1 << 20),
        NegotiateRequest(255, 8192, 127, 1 << 20),
        NegotiateRequest(255, 8192, 8192, 131071),
    ],
)
def test_server_refuses(make: Make, request_: NegotiateRequest) -> None:
    both = make(negotiated=False)
    both.arrive(request_.pack())
    assert closed(both).reason is CloseReason.NEGOTIATION


@pytest.mark.parametrize(
    "response",
    [
        NegotiateResponse(255, 255, STATUS_NOT_SUPPORTED, 8 << 20, 8192, 8192, 1 << 20),
        NegotiateResponse(0, 255, 0, 8 << 20, 8192, 8192, 1 << 20),
        NegotiateResponse(255, 0, 0, 8 << 20, 8192, 8192, 1 << 20),
        NegotiateResponse(255, 255, 0, 8 << 20, 8193, 8192, 1 << 20),
        NegotiateResponse(255, 255, 0, 8 << 20, 8192, 127, 1 << 20),
        NegotiateResponse(255, 255, 0, 8 << 20, 8192, 8192, 131071),
        NegotiateResponse(255, 255, 0, 8 << 20, 8192, 8192, 1 << 20, negotiated_version=0x0200),
    ],
)
def test_client_refuses(make: Make, response: NegotiateResponse) -> None:
    both = make(Role.CLIENT, negotiated=False)
    both.arrive(response.pack())
    assert closed(both).reason is CloseReason.NEGOTIATION


@pytest.mark.parametrize("role", Role)
def test_negotiation_cut_short(make: Make, role: Role) -> None:
    both = make(role, negotiated=False)
    both.arrive(bytes(19))
    assert closed(both).reason is CloseReason.PROTOCOL_ERROR


def test_small_preferred_send_size_is_not_taken_below_128(make: Make) -> None:
    both = make(negotiated=False)
    both.arrive(NegotiateRequest(255, 64, 8192, 1 << 20).pack())
    both.deliver()
    assert NegotiateResponse.parse(sent(both)[0]).max_receive_size == 128


def test_reads_are_as_many_as_all_can(make: Make) -> None:
    blob = PrivateData(5, 1).pack()
    assert make(private_data=blob).facts()["read_depth"] == 5
    assert make(limits=Limits(initiator_depth=3), private_data=blob).facts()["read_depth"] == 3
    assert make(private_data=PrivateData(0, 1).pack()).facts()["read_depth"] == 32


# Timers.


@pytest.mark.parametrize("role", Role)
def test_negotiation_has_ten_seconds(make: Make, role: Role) -> None:
    both = make(role, negotiated=False)
    both.wait(10 * SECOND - 1)
    assert both.state is State.NEGOTIATING
    both.wait(1)
    assert closed(both).reason is CloseReason.TIMEOUT


def test_silence_ends_a_server_connection(make: Make) -> None:
    both = make()
    both.wait(359 * SECOND)
    told(both, DataTransfer(255))
    both.wait(359 * SECOND)
    assert both.state is State.ESTABLISHED
    both.wait(SECOND)
    assert closed(both).reason is CloseReason.TIMEOUT


def test_server_never_pings(make: Make) -> None:
    both = make()
    both.wait(300 * SECOND)
    assert not both.did


def test_client_pings_when_it_has_sent_nothing(make: Make) -> None:
    both = make(Role.CLIENT)
    both.wait(120 * SECOND)
    assert [transfer.flags for transfer in transfers(both)] == [1]
    both.run()
    both.wait(29 * SECOND)
    told(both, DataTransfer(255))
    both.wait(30 * SECOND)
    assert both.state is State.ESTABLISHED


def test_unanswered_ping_ends_the_connection(make: Make) -> None:
    both = make(Role.CLIENT)
    both.wait(120 * SECOND)
    both.run()
    both.wait(30 * SECOND)
    assert closed(both).reason is CloseReason.TIMEOUT


def test_ping_is_answered_once_and_without_a_flag(make: Make) -> None:
    both = make()
    told(both, DataTransfer(255, flags=1))
    assert [transfer.flags for transfer in transfers(both)] == [0]
    told(both, DataTransfer(255))
    assert not sent(both)


def test_message_that_leaves_anyway_answers_a_ping(make: Make) -> None:
    both = make()
    both.cork()
    both.send(b"reply")
    told(both, DataTransfer(255, flags=1))
    both.uncork()
    assert [transfer.payload for transfer in transfers(both)] == [b"reply"]


def test_flag_on_the_answer_to_our_ping_needs_no_answer(make: Make) -> None:
    """cifs.ko 6.1 asks for a response with its response: two such ends would never stop."""
    both = make(Role.CLIENT)
    both.wait(120 * SECOND)
    both.run()
    told(both, DataTransfer(255, flags=1))
    assert not sent(both)


def test_message_that_gets_no_credit_ends_the_connection(make: Make) -> None:
    both = make(negotiated=False)
    both.arrive(REQUEST.pack())
    both.deliver()
    both.run()
    both.send(b"never")
    both.wait(59 * SECOND)
    assert both.state is State.ESTABLISHED
    both.wait(SECOND)
    assert closed(both).reason is CloseReason.TIMEOUT


def test_send_that_never_completes_ends_the_connection(make: Make) -> None:
    both = make()
    both.send(b"the peer has stopped reading")
    both.wait(60 * SECOND)
    assert both.state is State.DEAD


def test_progress_postpones_the_send_timeout(make: Make) -> None:
    both = make()
    both.send(bytes(20 * 8168))
    for posted in [posted for posted in both.posted if posted.work.signalled]:
        both.wait(50 * SECOND)
        both.finish(posted)
        both.deliver()
        assert both.state is State.ESTABLISHED


# Close.


def test_graceful_close_sends_what_is_queued(make: Make) -> None:
    both = make()
    both.cork()
    both.send(bytes(20000))
    both.close(graceful=True)
    both.uncork()
    assert len(sent(both)) == 3
    assert both.state is State.CLOSING
    assert not both.send(b"too late")
    assert closed(both).reason is CloseReason.BY_WORKER


def test_graceful_close_has_a_deadline(make: Make) -> None:
    both = make()
    both.send(b"x")
    both.close(graceful=True)
    both.wait(60 * SECOND)
    assert closed(both).reason is CloseReason.BY_WORKER


def test_abortive_close_is_at_once(make: Make) -> None:
    both = make()
    both.send(b"x")
    both.close(graceful=False, reason=CloseReason.SHUTDOWN)
    assert both.state is State.DEAD
    assert closed(both).reason is CloseReason.SHUTDOWN


def test_what_arrives_while_closing_is_not_delivered(make: Make) -> None:
    both = make()
    both.send(b"x")
    both.close(graceful=True)
    told(both, DataTransfer(255, 0, payload=b"nobody reads this"))
    assert not any(isinstance(action, Deliver) for action in both.did)


def test_loss_keeps_the_reason_of_the_queue_pair(make: Make) -> None:
    both = make()
    both.lose(CloseReason.BY_PEER)
    assert closed(both).reason is CloseReason.BY_PEER


def test_failed_send_is_a_lost_peer(make: Make) -> None:
    both = make()
    both.send(b"x")
    both.finish(both.posted[0], Status.TRANSPORT_ERROR)
    assert closed(both).reason is CloseReason.PEER_LOST


# Back-pressure towards the owner.


def test_writable_again_below_the_low_water_mark(make: Make) -> None:
    both = make(config=Config(send_credit_target=8))
    both.send(bytes(1 << 20))
    both.send(bytes(100))
    assert not both.facts()["writable"]
    while both.posted:
        both.run()
        if Writable() in both.did:
            break
        told(both, DataTransfer(255, 8))
    assert both.facts()["queued_bytes"] < 256 << 10
    assert both.facts()["writable"]
