"""Builds every fuzz target with libFuzzer under the sanitizers and runs it for a moment.

A target is tests/fuzz/fuzz_NAME.c, linked as the C tests are.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.csrc.linked import linked
from tests.effort import FUZZ_SECONDS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SANITIZE = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror", *SANITIZE]
INCLUDE = ["-I", str(ROOT / "csrc"), "-I", str(ROOT / "tests" / "csrc")]
SMOKE_SECONDS = 3
SECONDS = FUZZ_SECONDS or SMOKE_SECONDS
BUILD_SECONDS = 180
MEMORY_MIB = 1024


def findings(folder: Path) -> str:
    """The inputs that broke the target, in hexadecimal."""
    inputs = sorted(folder.glob("*-*"))
    return "\n".join(f"{path.name}: {path.read_bytes()[:4096].hex()}" for path in inputs)


@pytest.mark.timeout(BUILD_SECONDS + SECONDS + 60)
@pytest.mark.parametrize("target", sorted(HERE.glob("fuzz_*.c")), ids=lambda target: target.stem)
def test_fuzz(target: Path, tmp_path: Path) -> None:
    program = tmp_path / target.stem
    command = ["clang", *FLAGS, *INCLUDE, str(target), *linked(target), "-o", str(program)]
    subprocess.run([*command, "-pthread"], check=True, timeout=BUILD_SECONDS)
    artifacts = tmp_path / "found"
    artifacts.mkdir()
    run = subprocess.run(
        [
            str(program),
            f"-max_total_time={SECONDS}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-artifact_prefix={artifacts}/",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
    )
    assert run.returncode == 0, f"{run.stderr[-4000:]}\n{findings(artifacts)}"
