"""Rounds: every measurement once, then all of them again. What the machine does meanwhile meets all alike."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TextIO

from smbserver.bench.figures import GIB, Figure, figure
from smbserver.bench.processes import Watched

CPU = "CPU s/GiB"
WARM_UP = 1
"""Rounds before those that count: memory is touched and caches are filled for the first time."""

Sized = Callable[[int], Awaitable[float]]
"""Moves so much, and gives back the figure."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    name: str
    unit: str
    run: Callable[[], Awaitable[float]]
    moves: int = 0
    """Bytes of payload that one run moves; 0 where CPU time per GiB means nothing."""
    servers: tuple[Watched, ...] = ()


class Progress:
    """A bar on a terminal, a line per step elsewhere. Writes to stderr: stdout is for results."""

    WIDTH = 32

    def __init__(self, total: int, stream: TextIO = sys.stderr) -> None:
        self._total = total
        self._done = 0
        self._stream = stream
        self._bar = stream.isatty()
        self._began = time.monotonic()

    def step(self, words: str) -> None:
        if self._bar:
            filled = self.WIDTH * self._done // self._total
            bar = "#" * filled + "." * (self.WIDTH - filled)
            self._stream.write(f"\r\033[K[{bar}] {self._done}/{self._total} {words}")
        else:
            elapsed = time.monotonic() - self._began
            self._stream.write(f"{elapsed:6.1f} s  {self._done + 1}/{self._total} {words}\n")
        self._stream.flush()
        self._done += 1

    def end(self) -> None:
        if self._bar:
            self._stream.write("\r\033[K")
            self._stream.flush()


async def run(measurements: Sequence[Measurement], rounds: int) -> list[Figure]:
    """Medians of `rounds` rounds: for each measurement its figure, then CPU per GiB of its servers."""
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    progress = Progress((WARM_UP + rounds) * len(measurements))
    for number in range(1 - WARM_UP, rounds + 1):
        for each in measurements:
            progress.step(f"{each.name}, " + (f"round {number}" if number > 0 else "warm-up"))
            for name, unit, value in await _once(each):
                if number > 0:
                    samples[name, unit].append(value)
    progress.end()
    return [figure(name, unit, values) for (name, unit), values in samples.items()]


async def _once(measurement: Measurement) -> list[tuple[str, str, float]]:
    name, servers = measurement.name, measurement.servers
    before = [server.cpu_seconds() for server in servers]
    found = [(name, measurement.unit, await measurement.run())]
    if measurement.moves:
        spent = [
            (server.cpu_seconds() - earlier) / (measurement.moves / GIB)
            for server, earlier in zip(servers, before, strict=True)
        ]
        found.append((f"{name}_cpu", CPU, sum(spent)))
        if len(servers) > 1:
            found += [
                (f"{name}_cpu_{server.label}", CPU, each)
                for server, each in zip(servers, spent, strict=True)
            ]
    return found
