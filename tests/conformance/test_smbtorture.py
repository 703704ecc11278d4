"""What smbtorture says is read rightly, and held rightly against the record."""

from __future__ import annotations

import queue

import pytest

from tests.conformance import record
from tests.conformance.smbtorture import FAILURE, SKIP, SUCCESS, TIMEOUT, Result, _results
from tests.conformance.suites import SUITES, Suite, chosen

SUITE = Suite("smb2.read", limit=0.01)


def results(*lines: str | None) -> list[Result]:
    said: queue.Queue[str | None] = queue.Queue()
    for line in lines:
        said.put(line)
    return list(_results(SUITE, said))


def test_verdicts_and_reasons() -> None:
    found = results(
        "test: smb2.read.eof",
        "success: smb2.read.eof",
        "test: smb2.read.copy-chunk streams",
        "a line of talk",
        "failure: smb2.read.copy-chunk streams [",
        "../../source4/torture/smb2/read.c:12: wrong",
        "more of it",
        "]",
        "test: smb2.read.bug",
        "skip: smb2.read.bug [",
        "why",
        "]",
        None,
    )
    assert found == [
        Result("smb2.read", "smb2.read.eof", SUCCESS),
        Result("smb2.read", "smb2.read.copy-chunk streams", FAILURE, "read.c:12: wrong"),
        Result("smb2.read", "smb2.read.bug", SKIP, "why"),
    ]


@pytest.mark.parametrize(("end", "verdict"), [((), TIMEOUT), ((None,), FAILURE)])
def test_a_test_that_is_silent_or_ends_smbtorture(end: tuple[None, ...], verdict: str) -> None:
    (found,) = results("test: smb2.read.eof", *end)
    assert (found.test, found.verdict) == ("smb2.read.eof", verdict)


def test_what_is_lost_and_gained() -> None:
    before = {name: Result("s", name, verdict) for name, verdict in (("a", SUCCESS), ("b", SKIP))}
    now = [Result("s", "a", FAILURE), Result("s", "b", SUCCESS), Result("s", "c", FAILURE)]
    assert [one.test for one in record.lost(before, now)] == ["a"]
    assert [one.test for one in record.gained(before, now)] == ["b"]


def test_a_single_test_is_run_as_its_suite_is() -> None:
    (found,) = chosen(["smb2.session.reauth4"])
    assert found in SUITES
    (found,) = chosen(["smb2.maxfid"])
    assert found.limit > SUITES[0].limit
    with pytest.raises(LookupError, match="no suite"):
        chosen(["smb2.nonsense"])
