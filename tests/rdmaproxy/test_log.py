"""The log: one line per event, which a program can take apart again."""

from __future__ import annotations

import logging

import pytest

from rdmaproxy import log


def test_lines_are_keys_and_values(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rdmaproxy")
    log.event("connection_closed", remote=("2001:db8::1", 5), local=("192.0.2.1", 6), words='a "b"')
    log.refusal("refused", words="", count=3, trick="x\ny=z")
    log.detail("unseen")
    assert [record.getMessage() for record in caplog.records] == [
        'event=connection_closed remote=[2001:db8::1]:5 local=192.0.2.1:6 words="a \\"b\\""',
        'event=refused words="" count=3 trick="x\\ny=z"',
    ]


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (0, ["refusal"]),
        (1, ["event", "refusal"]),
        (3, ["detail", "event", "refusal"]),
    ],
)
def test_levels(level: int, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("rdmaproxy")
    handlers, propagate, before = logger.handlers[:], logger.propagate, logger.level
    try:
        log.start(level)
        log.detail("detail")
        log.event("event")
        log.refusal("refusal")
    finally:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(before)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("event=")[2] for line in lines] == shown
