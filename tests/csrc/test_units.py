"""Builds and runs every C test under AddressSanitizer and UndefinedBehaviorSanitizer.

A test is a program tests/csrc/test_NAME.c that says nothing and exits with 0; linked.py tells what it is linked with.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.csrc.linked import linked

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror", *SANITIZE]
BUILD_SECONDS = 180
RUN_SECONDS = 120


@pytest.mark.parametrize("test", sorted(HERE.glob("test_*.c")), ids=lambda test: test.stem)
def test_unit(test: Path, tmp_path: Path) -> None:
    program = tmp_path / test.stem
    include = ["-I", str(ROOT / "csrc"), "-I", str(HERE)]
    subprocess.run(
        ["gcc", *FLAGS, *include, str(test), *linked(test), "-o", str(program), "-pthread"],
        check=True,
        timeout=BUILD_SECONDS,
    )
    run = subprocess.run(
        [str(program)], check=False, cwd=ROOT, capture_output=True, text=True, timeout=RUN_SECONDS
    )
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    assert not said
