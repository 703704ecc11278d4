"""The record: one line per test, `suite test result` with tabs between them, and a reason where there is one."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.smbtorture import SUCCESS, Result

EXPECTED = Path(__file__).with_name("expected")
"""What our server does."""
YARDSTICK = Path(__file__).with_name("smbd-4.17.12")
"""What Samba's smbd does: the best of the set-ups tried; the file's head says how it was made."""

Record = dict[str, Result]
"""By the name of the test."""


def load(path: Path) -> Record:
    """Empty where there is no record yet."""
    if not path.exists():
        return {}
    record = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            suite, test, verdict, *reason = line.split("\t")
            record[test] = Result(suite, test, verdict, *reason)
    return record


def save(path: Path, record: Record, results: list[Result]) -> None:
    """Puts these results in the place of those of the same tests; reasons change too often to be kept."""
    merged = record | {result.test: result for result in results}
    lines = sorted(f"{one.suite}\t{one.test}\t{one.verdict}" for one in merged.values())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def lost(record: Record, results: list[Result]) -> list[Result]:
    """What passed when the record was made and does not now."""
    return [
        result
        for result in results
        if result.verdict != SUCCESS
        and result.test in record
        and record[result.test].verdict == SUCCESS
    ]


def gained(record: Record, results: list[Result]) -> list[Result]:
    """What passes now and did not, or was not known, when the record was made."""
    return [
        result
        for result in results
        if result.verdict == SUCCESS
        and (result.test not in record or record[result.test].verdict != SUCCESS)
    ]
