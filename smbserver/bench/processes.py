"""Processes under measurement: CPU time and memory from /proc, of a process and all it has started."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

# proc(5), /proc/PID/stat: places behind the program's name, which may itself hold spaces and brackets.
PPID = 1
UTIME, STIME, CUTIME, CSTIME = 11, 12, 13, 14


@dataclasses.dataclass(frozen=True, slots=True)
class Watched:
    """A server process and its children, under the name that the figures use."""

    label: str
    pid: int
    without: tuple[int, ...] = ()
    """Children (and theirs) that are watched under a name of their own."""

    def cpu_seconds(self) -> float:
        """User and system time so far. Children that ended are in their parent's account."""
        stats = _all_stats()
        ticks = 0
        for pid in _tree(self.pid, stats, self.without):
            ticks += sum(int(stats[pid][place]) for place in (UTIME, STIME, CUTIME, CSTIME))
        return ticks / CLOCK_TICKS


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"process {pid} has no memory: has it ended?")


def children(pid: int) -> list[int]:
    """Direct children, in order of their numbers."""
    return sorted(child for child, stat in _all_stats().items() if int(stat[PPID]) == pid)


def _all_stats() -> dict[int, list[str]]:
    stats = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it may end while we look
                text = Path("/proc", entry, "stat").read_text()
                stats[int(entry)] = text.rpartition(")")[2].split()
    return stats


def _tree(root: int, stats: dict[int, list[str]], without: tuple[int, ...]) -> set[int]:
    found = {root} & stats.keys()
    grown = True
    while grown:
        more = {
            pid
            for pid, stat in stats.items()
            if int(stat[PPID]) in found and pid not in found and pid not in without
        }
        found |= more
        grown = bool(more)
    return found
