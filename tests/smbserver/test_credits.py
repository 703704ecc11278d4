from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smbserver.credits import MessageWindow


def test_in_order() -> None:
    window = MessageWindow(100)
    assert window.take(0, 1)
    assert not window.take(0, 1), "used before"
    assert not window.take(1, 1), "never granted"
    assert window.grant(10) == 10
    assert window.take(1, 4)
    assert window.take(5, 6)
    assert not window.take(11, 1)


def test_out_of_order() -> None:
    window = MessageWindow(100)
    window.take(0, 1)
    window.grant(10)
    assert window.take(5, 2)
    assert not window.take(6, 2)
    assert window.take(1, 4)
    assert window.low == 7
    assert not window.take(3, 1)


def test_the_last_credit_is_never_kept() -> None:
    window = MessageWindow(4)
    window.take(0, 1)
    assert window.grant(0) == 1, "a client without credits could never ask again"
    assert window.grant(100) == 3
    assert window.grant(100) == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8), st.integers(0, 20)), max_size=200))
def test_an_id_is_used_once_and_only_if_granted(steps: list[tuple[int, int, int]]) -> None:
    limit = 16
    window, granted, used = MessageWindow(limit), 1, set()
    for message_id, charge, wanted in steps:
        ids = set(range(message_id, message_id + charge))
        expected = not ids & used and max(ids) < granted
        assert window.take(message_id, charge) == expected
        if expected:
            used |= ids
        granted += window.grant(wanted)
        assert window.high == granted
        assert 1 <= window.high - window.low <= limit
