"""bench.py FOLDER: perftest beside SMB on the same device in the same run, by the kernel's client and by ours.

The kernel's client is mounted at FOLDER/mnt. An SMB READ is the server's RDMA Write, so it is held against
ib_write_bw; an SMB WRITE is the server's RDMA Read, held against ib_read_bw. Rounds alternate, so that a busy
host hurts both alike.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from smbdirect.channel import Channel
from smbdirect.control import Proxy
from smbdirect.pool import PoolRange
from smbserver import client

ROUNDS = int(os.environ.get("LAB_ROUNDS", "5"))
ADDRESS = os.environ["LAB_ADDRESS"]
DEVICE, FABRIC, RDMA_PORT = {"rxe": ("rxe0", "verbs", 445), "siw": ("siw0", "iwarp", 5445)}[
    os.environ["LAB_FABRIC"]
]
MIB = 1 << 20
DEPTH = 4
"""Requests in flight."""
TRIES = 12
ROUND_TRIPS = 300
ITERATIONS = 48
"""Transfers of one round of perftest; about two seconds under emulation."""
SIZE = 64 * MIB
"""Bytes of one round of SMB."""
PORT = 18515
TRY_LIMIT = 60.0
"""Seconds that perftest's client has; it needs five."""
START_LIMIT = 30.0
"""Seconds that perftest's server has to listen."""


def perftest(tool: str, size: int, column: int, *options: str) -> float:
    """One round between two processes on the device: MiB/s, or microseconds, as the tool prints in its column.

    It measures the processor's clock first, and prints 0 or inf where the points of that are not on a line: under
    emulation they often are not. And now and then one of its two ends crashes, and the other waits for it.
    """
    words = [tool, "-R", "-F", "-d", DEVICE, "-s", str(size), "-p", str(PORT), *options]
    for _ in range(TRIES):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as server:
            try:
                printed = printed_by([*words, ADDRESS])
            finally:
                server.kill()
        figures = [
            line.split() for line in printed.splitlines() if line.strip().startswith(str(size))
        ]
        if figures and 0 < float(figures[-1][column]) < math.inf:
            return float(figures[-1][column])
    raise SystemExit(f"{tool} printed no figure {TRIES} times: {printed}")


def printed_by(words: list[str]) -> str:
    """What the client prints, as soon as its server listens."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=TRY_LIMIT, check=False
            )
        except subprocess.TimeoutExpired as error:
            return str(error)
        if done.returncode == 0 or time.monotonic() > deadline:
            return done.stdout + done.stderr


def fio(way: str, folder: Path) -> float:
    """MiB/s of the kernel's client, 1 MiB at queue depth 4, past its cache."""
    command = ["fio", "--name=bench", f"--filename={folder}/bench", f"--rw={way}", f"--size={SIZE}"]
    command += [
        "--bs=1M",
        f"--iodepth={DEPTH}",
        "--ioengine=libaio",
        "--direct=1",
        "--output-format=json",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True, cwd="/tmp"
    )
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    return float(job[way]["bw_bytes"]) / MIB


async def own_client(folder: Path) -> tuple[float, float]:
    """MiB/s of our client: WRITE, then READ, 1 MiB at queue depth 4, from and to memory that RDMA reaches."""
    control = str(folder / "run" / "rdmaproxy")
    options = {"rdma": True, "rdma_port": RDMA_PORT, "control": control}
    async with (
        await client.connect(ADDRESS, user="test", password="pass", **options) as session,
        await (await session.tree("data")).create("own") as file,
    ):
        block = os.urandom(MIB)
        with contextlib.ExitStack() as stack:
            pieces = [stack.enter_context(await session.buffer(MIB)) for _ in range(DEPTH)]
            for piece in pieces:
                piece.view[:] = block
            written = await moved(file.write_from, pieces)
            for piece in pieces:
                piece.view[:] = bytes(MIB)
            read = await moved(file.read_into, pieces)
            assert all(piece.view == block for piece in pieces)
        assert session.statistics().by_rdma == 2 * SIZE
    return written, read


async def moved(move: Callable[[int, PoolRange], Awaitable[int]], pieces: list[PoolRange]) -> float:
    """MiB/s of SIZE bytes, as many requests in flight as there are pieces."""

    async def lane(number: int) -> None:
        for offset in range(number * MIB, SIZE, len(pieces) * MIB):
            assert await move(offset, pieces[number]) == MIB

    begun = time.monotonic()
    await asyncio.gather(*map(lane, range(len(pieces))))
    return SIZE / MIB / (time.monotonic() - begun)


async def round_trip(folder: Path) -> float:
    """Microseconds, half of a round trip of 64 bytes: channel, proxy, device, and the same upwards; median."""
    proxy = await Proxy.open(str(folder / "run" / "rdmaproxy"))
    listener = await proxy.listen(ADDRESS, 0, FABRIC)
    asking = Channel(*await proxy.connect(ADDRESS, listener.port, FABRIC))
    answering = Channel(*await listener.accept())
    answering.start(lambda message: answering.send(bytes(message)), lambda closed: None)
    took = []
    for _ in range(ROUND_TRIPS):
        begun = time.monotonic()
        asking.send(bytes(64))
        await asking.receive()
        took.append(time.monotonic() - begun)
    for channel in (asking, answering):
        channel.close()
        await channel.wait_closed()
    await listener.close()
    await proxy.close()
    return statistics.median(took) / 2 * 1e6


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
    print(f"{what:36}{statistics.median(figures):9.1f}  {span:22}{ratio}", flush=True)


def main(folder: Path) -> None:
    seen: dict[str, list[float]] = collections.defaultdict(list)
    for _ in range(ROUNDS):
        for tool, way in (("ib_read_bw", "write"), ("ib_write_bw", "read")):
            seen[tool].append(perftest(tool, MIB, 3, "-n", str(ITERATIONS)))
            before = cpu_seconds()
            seen[way].append(fio(way, folder / "mnt"))
            seen[f"{way} cpu"].append((cpu_seconds() - before) * (1 << 30) / SIZE)
        written, read = asyncio.run(own_client(folder))
        seen["own write"].append(written)
        seen["own read"].append(read)
        if FABRIC == "verbs":  # on siw it has hung
            seen["ib_send_lat"].append(perftest("ib_send_lat", 64, 4, "-n", str(ROUND_TRIPS)))
        seen["round trip"].append(asyncio.run(round_trip(folder)))
    print(f"{DEVICE}, {ROUNDS} rounds, 1 MiB{'median':>29}  least ... most       ratio")
    row("ib_write_bw, MiB/s", seen["ib_write_bw"])
    row("SMB READ, kernel client, MiB/s", seen["read"], seen["ib_write_bw"])
    row("SMB READ, own client, MiB/s", seen["own read"], seen["ib_write_bw"])
    row("ib_read_bw, MiB/s", seen["ib_read_bw"])
    row("SMB WRITE, kernel client, MiB/s", seen["write"], seen["ib_read_bw"])
    row("SMB WRITE, own client, MiB/s", seen["own write"], seen["ib_read_bw"])
    row("server CPU s per GiB, READ", seen["read cpu"])
    row("server CPU s per GiB, WRITE", seen["write cpu"])
    if seen["ib_send_lat"]:
        row("ib_send_lat, 64 bytes, us", seen["ib_send_lat"])
    row("the same, channel to channel, us", seen["round trip"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
