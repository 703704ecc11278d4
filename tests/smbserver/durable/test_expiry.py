"""The listener's timer for durable opens, with a loop whose clock is moved by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from smbserver.durable.expiry import AGAIN, Expiry


class Clock:
    """A loop that only knows `call_later`, and the time of day that goes with it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: list[SimpleNamespace] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        when = self.now + seconds
        timer = SimpleNamespace(when=lambda: when, callback=callback)
        timer.cancel = lambda: self.due.remove(timer)
        self.due.append(timer)
        return timer

    def move_to(self, when: float) -> None:
        self.now = when
        for timer in [one for one in self.due if one.when() <= when]:
            self.due.remove(timer)
            timer.callback()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    monkeypatch.setattr(time, "time", made.time)
    return made


class Waiting:
    """Stands for `Parked`: who is waited for until when."""

    def __init__(self) -> None:
        self.deadlines: list[float] = []
        self.asked: list[float] = []

    def all(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(deadline=deadline) for deadline in self.deadlines]


def test_each_ends_in_its_time(clock: Clock) -> None:
    waiting = Waiting()

    def end() -> None:
        waiting.asked.append(clock.now)
        waiting.deadlines = [one for one in waiting.deadlines if one > clock.now]

    expiry = Expiry(waiting, end)  # type: ignore[arg-type]
    for seconds in (30, 5, 60):
        waiting.deadlines.append(clock.now + seconds)
        expiry.within(seconds)
    assert len(clock.due) == 1
    for when in (1004.0, 1005.0, 1029.0, 1030.0, 1060.0, 1061.0, 1100.0):
        clock.move_to(when)
    assert waiting.asked == [1005.0, 1030.0, 1060.0]
    assert not clock.due


def test_who_is_not_ended_is_asked_for_again(clock: Clock) -> None:
    waiting = Waiting()
    waiting.deadlines = [900.0]
    expiry = Expiry(waiting, lambda: waiting.asked.append(clock.now))  # type: ignore[arg-type]
    expiry.look()
    clock.move_to(1000.0 + AGAIN)
    assert waiting.asked == [1000.0, 1000.0 + AGAIN]
    expiry.stop()
    assert not clock.due
