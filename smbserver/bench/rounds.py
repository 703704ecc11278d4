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

CPU_UNIT = "CPU s/GiB"


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
    """Medians of `rounds` rounds; for each measurement its figure, then CPU per GiB of its servers."""
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    progress = Progress(rounds * len(measurements))
    for number in range(rounds):
        for each in measurements:
            progress.step(f"round {number + 1}: {each.name}")
            before = [server.cpu_seconds() for server in each.servers]
            samples[each.name, each.unit].append(await each.run())
            if each.moves:
                for server, earlier in zip(each.servers, before, strict=True):
                    spent = (server.cpu_seconds() - earlier) / (each.moves / GIB)
                    samples[f"cpu_{server.label}_{each.name}", CPU_UNIT].append(spent)
    progress.end()
    return [figure(name, unit, values) for (name, unit), values in samples.items()]
