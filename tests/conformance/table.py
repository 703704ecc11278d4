"""The score: per suite what passed, failed and was skipped, ours beside smbd's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.conformance.record import Record
from tests.conformance.smbtorture import FAILURE, SKIP, SUCCESS, TIMEOUT, Result

_ROW = "{:<32}{:>8}{:>8}{:>8}   {:>8}{:>8}{:>8}"


def table(results: list[Result], yardstick: Record) -> Iterator[str]:
    """Lines to print."""
    yield _ROW.format("", "ours", "", "", "smbd", "", "")
    yield _ROW.format("suite", *("passed", "failed", "skipped") * 2)
    suites = sorted({result.suite for result in results})
    for suite in suites:
        mine = [result for result in results if result.suite == suite]
        theirs = [result for result in yardstick.values() if result.suite == suite]
        yield _ROW.format(suite, *_counts(mine), *_counts(theirs))
    theirs = [result for result in yardstick.values() if result.suite in suites]
    yield _ROW.format("all", *_counts(results), *_counts(theirs))
    passed = {result.test for result in results if result.verdict == SUCCESS}
    wanted = {result.test for result in theirs if result.verdict == SUCCESS}
    if wanted:
        share = 100 * len(passed & wanted) / len(wanted)
        yield f"of {len(wanted)} tests that smbd passes we pass {len(passed & wanted)}: {share:.1f} %"


def _counts(results: list[Result]) -> tuple[int, int, int]:
    counts = Counter(result.verdict for result in results)
    return counts[SUCCESS], counts[FAILURE] + counts[TIMEOUT], counts[SKIP]
