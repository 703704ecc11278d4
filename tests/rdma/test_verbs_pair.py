"""The verbs fabric alone, in C, on an adapter of this host: the cases that test_fabric_verbs.c has on a played one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rdmaproxy import devices
from rdmaproxy.adapters import Adapter
from tests.csrc.linked import linked
from tests.csrc.test_units import FLAGS, ROOT

PROGRAM = Path(__file__).with_name("verbs_pair.c")
CYCLES = 200
BUILD_SECONDS, RUN_SECONDS = 180, 240


def test_verbs_pair(adapter: tuple[devices.Address, Adapter], tmp_path: Path) -> None:
    program = tmp_path / "verbs_pair"
    include = ["-I", str(ROOT / "csrc"), "-I", str(ROOT / "tests" / "csrc")]
    # Without AddressSanitizer: it does not know what an adapter writes.
    flags = [flag for flag in FLAGS if not flag.startswith(("-fsanitize", "-fno-sanitize"))]
    command = ["gcc", *flags, *include, str(PROGRAM), *linked(PROGRAM)]
    subprocess.run([*command, "-o", str(program), "-pthread"], check=True, timeout=BUILD_SECONDS)
    run = subprocess.run(
        [str(program), adapter[0].address, str(CYCLES)],
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert (run.returncode, run.stdout + run.stderr) == (0, "")
