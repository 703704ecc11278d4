"""What a holding does when it is asked to be broken, and when the client answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.lease import HANDLE, READ, WRITE, Holding, Wish
from smbserver.wire.create import OplockLevel
from smbserver.wire.create_contexts import Lease

ALL = READ | HANDLE | WRITE
FILE = (1, 2, "")
STATES = st.integers(0, ALL)


def lease(state: int) -> Holding:
    return Holding(1, FILE, state, b"g" * 16, b"k" * 16, 2, 5)


def oplock(state: int) -> Holding:
    return Holding(1, FILE, state, is_oplock=True)


def test_a_break_awaits_its_acknowledgment() -> None:
    holding = lease(ALL)
    assert holding.start_break(READ | HANDLE) == (ALL, READ | HANDLE)
    assert holding.breaking
    assert holding.state == ALL
    assert holding.epoch == 6
    assert holding.acknowledge(READ | HANDLE) is None
    assert not holding.breaking
    assert holding.state == READ | HANDLE


def test_reading_alone_is_taken_without_asking() -> None:
    holding = lease(READ)
    assert holding.start_break(0) == (READ, 0)
    assert not holding.breaking
    assert holding.state == 0


def test_more_that_is_wanted_meanwhile_comes_in_steps() -> None:
    holding = lease(ALL)
    holding.start_break(READ | HANDLE)
    assert holding.start_break(0) is None
    assert holding.acknowledge(READ | HANDLE) == (READ | HANDLE, READ)
    assert holding.breaking
    assert holding.acknowledge(READ) == (READ, 0)
    assert not holding.breaking
    assert holding.state == 0


def test_a_batch_oplock_goes_down_to_level_2_or_nothing() -> None:
    holding = oplock(ALL)
    assert holding.level == OplockLevel.BATCH
    assert holding.start_break(READ | HANDLE) == (ALL, READ)


@pytest.mark.parametrize(
    ("wanted", "granted", "becomes"),
    [
        (ALL, ALL, ALL),
        (ALL, READ | HANDLE, READ),
        (READ | HANDLE, READ | HANDLE, READ | HANDLE),
        (0, 0, READ),
    ],
)
def test_a_lease_grows_by_all_that_is_wanted_or_not_at_all(
    wanted: int, granted: int, becomes: int
) -> None:
    holding = lease(READ)
    holding.upgrade(wanted, granted)
    assert holding.state == becomes


@pytest.mark.parametrize(("state", "kept"), [(WRITE, 0), (HANDLE, 0), (WRITE | HANDLE, 0), (5, 5)])
def test_a_lease_without_reading_means_nothing(state: int, kept: int) -> None:
    assert Wish.of(OplockLevel.LEASE, Lease(b"k" * 16, state), b"g" * 16).state == kept


@given(STATES, st.lists(STATES, min_size=1, max_size=5))
def test_breaks_end_in_what_all_who_asked_can_live_with(start: int, wanted: list[int]) -> None:
    holding = lease(start)
    for to in wanted:
        holding.start_break(to)
    rounds = 0
    while holding.breaking:
        holding.acknowledge(holding.requested)
        rounds += 1
        assert rounds < 4
    for to in wanted:
        assert not holding.state & ~to
