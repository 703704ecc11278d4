"""`smbserver bench`: what is measured, in which order, and against what."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import json
import secrets
import sys
import tempfile
from pathlib import Path

from smbdirect.control import Proxy
from smbserver import own_server
from smbserver.bench import idle, raw, rdma, rounds, smb, smbd
from smbserver.bench.figures import GIB, MIB, RAW_STREAM, Figure, better_of, table, with_ratios
from smbserver.bench.processes import Watched
from smbserver.bench.rounds import CPU, Measurement

MEMORY = Path("/dev/shm")
"""A tmpfs, where there is one: the disk is not what is measured."""
SHARE = "bench"
THROUGHPUT, RATE = "MiB/s", "1/s"


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """How much one measurement moves."""

    large: int = GIB
    small: int = 20_000
    """READs of 4 KiB."""
    idle_seconds: float = 5.0


QUICK = Sizes(large=128 * MIB, small=2_000, idle_seconds=1.0)


async def measure(sizes: Sizes, count: int) -> list[Figure]:
    """All figures with their ratios."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smbserver-bench-")))
        files = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
            )
        )
        (files / smb.FILE_NAME).write_bytes(secrets.token_bytes(MIB) * (smb.FILE_SIZE // MIB))
        (files / smb.FILE_NAME).chmod(0o666)
        pair = await stack.enter_async_context(rdma.pair(folder))
        measurements = [
            *await bare(stack, sizes, pair),
            *await ours(stack, sizes, folder, files),
            *await theirs(stack, sizes, folder, files),
        ]
        figures = better_of(await rounds.run(measurements, count), tuple(smbd.TUNINGS), "smbd")
        figures += await idle.measure(pair, sizes.idle_seconds)
    return with_ratios(figures, comparisons(figures))


async def bare(
    stack: contextlib.AsyncExitStack, sizes: Sizes, pair: rdma.Pair
) -> list[Measurement]:
    """What needs no SMB: the raw stream, and RDMA through two proxies."""
    blocks = await rdma.open_blocks(pair)
    stack.callback(blocks.close)

    async def raw_stream() -> float:
        return await asyncio.to_thread(raw.measure, sizes.large)

    return [
        Measurement(RAW_STREAM, THROUGHPUT, raw_stream),
        Measurement("rdma_write", THROUGHPUT, functools.partial(blocks.write, sizes.large)),
        Measurement("rdma_read", THROUGHPUT, functools.partial(blocks.read, sizes.large)),
    ]


async def ours(
    stack: contextlib.AsyncExitStack, sizes: Sizes, folder: Path, files: Path
) -> list[Measurement]:
    """smbserver, over RDMA and over TCP."""
    served = own_server.OwnServer(
        folder / "smbserver", files, own_server.free_port(), own_server.free_port(), share=SHARE
    )
    process = stack.enter_context(own_server.running(served))
    proxy = await Proxy.open(served.proxy_path)
    proxy_pid = int(proxy.hello["pid"])
    await proxy.close()
    server = Watched("smbserver", process.pid, without=(proxy_pid,))
    client = stack.enter_context(own_server.running_proxy(folder / "client"))
    account = smb.Account(served.port, SHARE, served.user, served.password, served.rdma_port)
    by_rdma = await stack.enter_async_context(smb.work(account, client.control))
    by_tcp = await stack.enter_async_context(smb.work(account))
    return [
        *work_of("smb", "rdma", by_rdma, sizes, (server, Watched("rdmaproxy", proxy_pid))),
        *work_of("smb", "tcp", by_tcp, sizes, (server,)),
    ]


async def theirs(
    stack: contextlib.AsyncExitStack, sizes: Sizes, folder: Path, files: Path
) -> list[Measurement]:
    """smbd over TCP, as it comes and tuned; nothing where there is none."""
    measurements: list[Measurement] = []
    password = secrets.token_urlsafe(9)
    for tuning in smbd.TUNINGS:
        running = smbd.running(folder / tuning, tuning, SHARE, files, password)
        try:
            server = stack.enter_context(running)
        except smbd.SmbdMissing as error:
            print(f"smbserver bench: without smbd: {error}", file=sys.stderr)
            return []
        account = smb.Account(server.port, SHARE, server.user, password)
        by_tcp = await stack.enter_async_context(smb.work(account))
        measurements += work_of(f"smbd_{tuning}", "tcp", by_tcp, sizes, (server.watched,))
    return measurements


def work_of(
    prefix: str, transport: str, work: smb.Work, sizes: Sizes, servers: tuple[Watched, ...]
) -> list[Measurement]:
    def large(name: str, run: rounds.Sized) -> Measurement:
        return Measurement(
            f"{prefix}_{name}_{transport}_1m",
            THROUGHPUT,
            functools.partial(run, sizes.large),
            sizes.large,
            servers,
        )

    return [
        large("read", work.read),
        large("write", work.write),
        Measurement(
            f"{prefix}_read_{transport}_4k", RATE, functools.partial(work.read_small, sizes.small)
        ),
    ]


def comparisons(figures: list[Figure]) -> dict[str, str]:
    """For each figure of ours its counterpart of smbd, which speaks TCP only."""
    return {
        each.name: each.name.replace("smb_", "smbd_", 1).replace("_rdma_", "_tcp_", 1)
        for each in figures
        if each.name.startswith("smb_")
    }


def run(arguments: argparse.Namespace) -> int:
    own_server.unwind_on_sigterm()
    sizes = QUICK if arguments.quick else Sizes()
    figures = asyncio.run(measure(sizes, arguments.rounds))
    if arguments.json:
        print(json.dumps([dataclasses.asdict(each) for each in figures], indent=1))
    else:
        print(table(figures))
        print(f"medians of {arguments.rounds} rounds; {CPU} is of all server processes together")
    return 0
