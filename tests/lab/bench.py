"""bench.py FOLDER: perftest beside SMB on the same device in the same run; medians and ratios.

The kernel's client is mounted at FOLDER/mnt. An SMB READ is the server's RDMA Write, so it is held against
ib_write_bw; an SMB WRITE is the server's RDMA Read, held against ib_read_bw. Rounds alternate, so that a busy
host hurts both alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = int(os.environ.get("LAB_ROUNDS", "5"))
ADDRESS = os.environ["LAB_ADDRESS"]
DEVICE = {"rxe": "rxe0", "siw": "siw0"}[os.environ["LAB_FABRIC"]]
TRANSFER = 1 << 20
ITERATIONS = 48
"""Transfers of one round of perftest; about two seconds under emulation."""
SIZE = 64 << 20
"""Bytes of one round of SMB."""
PORT = 18515
START_LIMIT = 30.0
"""Seconds that perftest's server has to listen."""


def perftest(tool: str) -> float:
    """MiB/s of one round between two processes on the device."""
    options = [
        "-R",
        "-F",
        "-d",
        DEVICE,
        "-s",
        str(TRANSFER),
        "-n",
        str(ITERATIONS),
        "-p",
        str(PORT),
    ]
    with subprocess.Popen([tool, *options], stdout=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            client = subprocess.run(
                [tool, *options, ADDRESS], capture_output=True, text=True, timeout=120, check=False
            )
            if client.returncode == 0:
                break
        server.wait(30)
    figures = [
        line.split()
        for line in client.stdout.splitlines()
        if line.strip().startswith(str(TRANSFER))
    ]
    if not figures:
        raise SystemExit(f"{tool} printed no figure: {client.stdout}{client.stderr}")
    return float(figures[-1][3])


def fio(way: str, folder: Path) -> float:
    """MiB/s of the kernel's client, 1 MiB at queue depth 4, past its cache."""
    command = ["fio", "--name=bench", f"--filename={folder}/bench", f"--rw={way}", f"--size={SIZE}"]
    command += ["--bs=1M", "--iodepth=4", "--ioengine=libaio", "--direct=1", "--output-format=json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True, cwd="/tmp"
    )
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    return float(job[way]["bw_bytes"]) / (1 << 20)


def cpu_seconds() -> float:
    """User and system time of every process of the server and the proxy so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if (
                b"smbserver" in (command := (stat.parent / "cmdline").read_bytes())
                or b"rdmaproxy" in command
            ):
                ticks += sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def row(what: str, figures: list[float], against: list[float] | None = None) -> None:
    ratio = f"{statistics.median(figures) / statistics.median(against):6.2f}" if against else ""
    span = f"{min(figures):.1f} ... {max(figures):.1f}"
    print(f"{what:36}{statistics.median(figures):9.1f}  {span:18}{ratio}", flush=True)


def main(folder: Path) -> None:
    mounted = folder / "mnt"
    seen: dict[str, list[float]] = {
        name: [] for name in ("write", "read", "ib_write_bw", "ib_read_bw")
    }
    cpu: dict[str, list[float]] = {"write": [], "read": []}
    for _ in range(ROUNDS):
        for tool, way in (("ib_read_bw", "write"), ("ib_write_bw", "read")):
            seen[tool].append(perftest(tool))
            before = cpu_seconds()
            seen[way].append(fio(way, mounted))
            cpu[way].append((cpu_seconds() - before) * (1 << 30) / SIZE)
    print(f"{DEVICE}, {ROUNDS} rounds, 1 MiB{'median':>29}  least ... most   ratio")
    row("ib_write_bw, MiB/s", seen["ib_write_bw"])
    row("SMB READ, kernel client, MiB/s", seen["read"], seen["ib_write_bw"])
    row("ib_read_bw, MiB/s", seen["ib_read_bw"])
    row("SMB WRITE, kernel client, MiB/s", seen["write"], seen["ib_read_bw"])
    row("server CPU s per GiB, READ", cpu["read"])
    row("server CPU s per GiB, WRITE", cpu["write"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
