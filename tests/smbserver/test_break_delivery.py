"""A break finds its way by a hand-moved clock."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from smbserver import break_delivery
from smbserver.break_delivery import BreakDelivery

PATIENCE = 2.0


class Clock:
    """What of an event loop a delivery uses."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], Any]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call_later(0, call, *arguments)

    def call_later(self, delay: float, call: Callable[..., Any], *arguments: Any) -> None:
        due = self.now + delay, len(self._due), lambda: call(*arguments)
        heapq.heappush(self._due, due)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, call = heapq.heappop(self._due)
            call()
        self.now = end


class Connection:
    """One channel; `hears`: its client's system acknowledges. None: there is no telling."""

    def __init__(self, hears: bool | None) -> None:
        self.closed = False
        self.sent = 0
        self.counters: Counter[str] = Counter()
        self.evidence = SimpleNamespace(
            has_arrived=hears, patience=PATIENCE, give_up=lambda: self.count("reset")
        )
        sock = None if hears is None else self.evidence
        self.channel = SimpleNamespace(waiting_bytes=0, tcp_socket=sock)

    def count(self, name: str) -> None:
        self.counters[name] += 1

    def fail(self, words: str) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(break_delivery, "TcpDelivery", lambda evidence: evidence)
    monkeypatch.setattr("asyncio.get_running_loop", lambda: clock)
    return clock


def deliver(*connections: Connection) -> list[str]:
    """Starts a break; what is said when it is given up."""
    given_up: list[str] = []

    def send(connection: Connection) -> None:
        connection.sent += 1

    BreakDelivery(
        lambda: connections,  # type: ignore[arg-type, return-value]
        send,  # type: ignore[arg-type]
        lambda: given_up.append("given up"),
    ).start()
    return given_up


@pytest.mark.parametrize("hears", [True, None])
def test_the_first_that_lives_is_enough(clock: Clock, hears: bool | None) -> None:
    dead, living, spare = Connection(True), Connection(hears), Connection(True)
    dead.closed = True
    assert not deliver(dead, living, spare)
    clock.run(100)
    assert [one.sent for one in (dead, living, spare)] == [0, 1, 0]
    assert not living.closed


def test_a_deaf_one_is_ended_and_the_next_is_tried(clock: Clock) -> None:
    deaf, other = Connection(False), Connection(True)
    given_up = deliver(deaf, other)
    clock.run(PATIENCE - 0.1)
    assert (deaf.closed, other.sent) == (False, 0)
    clock.run(0.4)
    assert (deaf.closed, other.sent, given_up) == (True, 1, [])
    assert deaf.counters == {"channels_ended_deaf": 1, "reset": 1}


@pytest.mark.parametrize("only_its_socket", [False, True])
def test_one_that_ends_meanwhile(clock: Clock, only_its_socket: bool) -> None:
    """The channel is closed a moment before the connection knows."""
    ending, other = Connection(False), Connection(True)
    deliver(ending, other)
    clock.run(0.02)
    ending.channel.tcp_socket = None
    ending.closed = not only_its_socket
    clock.run(0.3)
    assert other.sent == 1
    assert not ending.counters


def test_late_is_not_deaf(clock: Clock) -> None:
    late = Connection(False)
    deliver(late)
    clock.run(PATIENCE / 2)
    late.evidence.has_arrived = True
    clock.run(100)
    assert not late.closed


def test_nobody_is_left(clock: Clock) -> None:
    given_up = deliver(Connection(False), Connection(False))
    clock.run(PATIENCE + 0.3)
    assert not given_up
    clock.run(PATIENCE + 0.3)
    assert given_up == ["given up"]
    assert deliver() == ["given up"]
