"""Runs smbtorture and reads what it says of each test.

Its output is subunit in text: `test: NAME`, later `success: NAME`, or `failure: NAME [`, lines of reason, `]`. A test
that stays silent for too long is ended with its process; the tests after it get a process of their own.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from smbserver.own_server import LOOPBACK
from tests.conformance.accounts import PASSWORD, Accounts
from tests.conformance.suites import ADMINISTRATOR, Suite

SUCCESS, FAILURE, SKIP, TIMEOUT = "success", "failure", "skip", "timeout"
_VERDICTS = {
    "success": SUCCESS,
    "failure": FAILURE,
    "error": FAILURE,
    "skip": SKIP,
    "xfail": FAILURE,
    "uxsuccess": SUCCESS,
}
_LINE = re.compile(r"(test|success|failure|error|skip|xfail|uxsuccess): (.*?)( \[)?")


class SmbtortureMissing(Exception):
    """There is no smbtorture; the sentence says how to get it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one test."""

    suite: str
    test: str
    verdict: str
    reason: str = ""


def program() -> str:
    found = shutil.which("smbtorture")
    if found is None:
        raise SmbtortureMissing(
            "smbtorture is not installed (Debian: apt-get install samba-testsuite)"
        )
    return found


def run(suite: Suite, port: int, accounts: Accounts) -> Iterator[Result]:
    """The results of a suite, as they come."""
    left = _tests_of(suite)
    wanted = list(suite.wanted)
    while wanted:
        hung, before = False, len(left)
        for result in _run_once(suite, wanted, port, accounts):
            if result.test in left:
                left.remove(result.test)
            hung = result.verdict == TIMEOUT
            yield result
        if not hung or len(left) == before:
            break
        wanted = list(left)
    for test in left:
        yield Result(suite.name, test, FAILURE, "smbtorture ended before it")


def _tests_of(suite: Suite) -> list[str]:
    if suite.tests:
        return list(suite.wanted)
    listed = subprocess.run(
        [program(), "--list"], text=True, capture_output=True, check=True, stdin=subprocess.DEVNULL
    )
    names = (_full_name(line) for line in listed.stdout.splitlines())
    return [name for name in names if name == suite.name or name.startswith(f"{suite.name}.")]


def _full_name(line: str) -> str:
    """The list names a test twice: smb2.read.eof.eof."""
    name = line.strip()
    half = name.rpartition(".")
    return half[0] if half[0].endswith(f".{half[2]}") else name


def _run_once(suite: Suite, wanted: list[str], port: int, accounts: Accounts) -> Iterator[Result]:
    account = accounts.administrator if suite.account == ADMINISTRATOR else accounts.user
    options = (
        f"torture:user2name={accounts.other}",
        f"torture:user2password={PASSWORD}",
        *suite.options,
    )
    command = [
        program(),
        f"//{LOOPBACK}/{suite.share}",
        f"-p{port}",
        f"-U{account}%{PASSWORD}",
        "--fullname",
        *(f"--option={option}" for option in options),
        *wanted,
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
        cwd=os.environ.get("TMPDIR", "/tmp"),  # it leaves folders where it stands
    )
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines))
    reader.start()
    try:
        yield from _results(suite, lines)
    finally:
        process.kill()
        process.wait()
        reader.join()


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if line.startswith(tuple(f"{word}: " for word in ("test", *_VERDICTS))) or not (
                line.startswith(("time: ", "progress: "))
            ):
                lines.put(line.rstrip("\n"))
    lines.put(None)


def _results(suite: Suite, lines: queue.Queue[str | None]) -> Iterator[Result]:
    begun, last, open_verdict, reason = "", "", "", ""
    while True:
        try:
            line = lines.get(timeout=suite.limit)
        except queue.Empty:
            if begun:
                yield Result(suite.name, begun, TIMEOUT, f"silent for {suite.limit:.0f} s; {last}")
            return
        if line is None:
            if begun:
                yield Result(suite.name, begun, FAILURE, f"smbtorture ended in it; {last}")
            return
        if open_verdict:
            if line == "]":
                yield Result(suite.name, begun, open_verdict, reason)
                begun = open_verdict = ""
            else:
                reason = reason or _short(line)
            continue
        last = line or last
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        if match[1] == "test":
            begun = match[2]
        elif match[3]:
            open_verdict, reason = _VERDICTS[match[1]], ""
            begun = match[2]
        else:
            yield Result(suite.name, match[2], _VERDICTS[match[1]])
            begun = ""


def _short(line: str) -> str:
    """Without the path of Samba's source."""
    return re.sub(r"\.\./\.\./source[34]/(torture|libcli)/(smb2/)?", "", line).strip()
