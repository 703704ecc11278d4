"""Builds and runs every C test under AddressSanitizer and UndefinedBehaviorSanitizer.

A test is a program tests/csrc/test_NAME.c that says nothing and exits with 0. Its first line names the files of csrc/
that are linked with it: `/* SOURCES: a.c b.c */`.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror", *SANITIZE]
BUILD_SECONDS = 180
RUN_SECONDS = 120


def sources(test: Path) -> list[str]:
    """The files of csrc/ that the first line of a test names."""
    first = test.read_text().split("\n", 1)[0]
    match = re.fullmatch(r"/\* SOURCES:(.*)\*/", first.strip())
    assert match, f"{test.name}: the first line must be /* SOURCES: a.c b.c */, it is: {first}"
    return [str(ROOT / "csrc" / name) for name in match[1].split()]


@pytest.mark.parametrize("test", sorted(HERE.glob("test_*.c")), ids=lambda test: test.stem)
def test_unit(test: Path, tmp_path: Path) -> None:
    program = tmp_path / test.stem
    include = ["-I", str(ROOT / "csrc"), "-I", str(HERE)]
    subprocess.run(
        ["gcc", *FLAGS, *include, str(test), *sources(test), "-o", str(program), "-pthread"],
        check=True,
        timeout=BUILD_SECONDS,
    )
    run = subprocess.run(
        [str(program)], check=False, cwd=ROOT, capture_output=True, text=True, timeout=RUN_SECONDS
    )
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    assert not said
