"""A live server and clients that speak SMB2 nearly right: 4000 requests as a smoke test, 100,000 in `make fuzz`.

What must hold in the end: every request was answered or its connection ended, no worker died, the descriptors of all
processes are those of the beginning, nobody has touched what lies beside the share, and the log tells of no fault
within. FUZZ_SEED repeats a run, FUZZ_REQUESTS makes a longer or shorter one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from smbserver import client, own_server
from smbserver.own_server import OwnServer
from smbserver.vfs.inotify import Inotify
from smbserver.wire.create import OplockLevel
from tests.effort import FUZZ_SECONDS
from tests.fuzz.smb2_client import Fuzzer
from tests.sessions import connect

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "100000" if FUZZ_SECONDS else "4000"))
SEED = int(os.environ.get("FUZZ_SEED", "0")) or int(time.time())
SECONDS_PER_REQUEST = 0.05
"""Far more than one takes, for machines that are busy."""

PATIENCE = 20.0
"""Seconds until what has ended is gone."""

SECRET = b"nobody may read this"
IN_ALL_EVENTS = 0x00000FFF

GUIDS = {"tcp": b"F" * 16, "rdma": b"G" * 16}
"""Two clients, thus two workers; one of them also sends through an RDMA channel."""

_FAULT = re.compile(r"^[^\n]* (?:ERROR|CRITICAL) [^\n]*\n(?:(?!\d{4}-)[^\n]*\n)*", re.MULTILINE)
"""A line of the log with the traceback that follows it."""


class Beside:
    """The folder that holds the share, and a file there that nobody may touch."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.canary = folder, folder / "canary"
        self.canary.write_bytes(SECRET)
        self._before = self.canary.stat()
        self._inotify = Inotify()
        for path in (self.folder, self.canary):
            self._inotify.watch(str(path), IN_ALL_EVENTS)

    def assert_untouched(self) -> None:
        """Neither read nor changed; the folder has got no new entries."""
        assert [one for one in self._inotify.events() if one.name != "share"] == []
        now = self.canary.stat()
        assert (now.st_ino, now.st_ctime_ns) == (self._before.st_ino, self._before.st_ctime_ns)
        assert sorted(os.listdir(self.folder)) == ["canary", "share"]


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    folder = tmp_path / "beside"
    (folder / "share").mkdir(parents=True)
    (folder / "share" / "out").symlink_to("..")
    (folder / "share" / "dir").mkdir()
    return Beside(folder)


@pytest.fixture
def fuzzed(tmp_path: Path, beside: Beside) -> Iterator[OwnServer]:
    share = beside.folder / "share"
    cached = (
        "[cached]",
        f"path = {share}",
        "read only = no",
        "oplocks = yes",
        "hide dot files = no",
    )
    made = OwnServer(
        folder=tmp_path / "server",
        path=share,
        port=own_server.free_port(),
        rdma_port=own_server.free_port(),
        options=("smb2 leases = yes", *cached),
    )
    with own_server.running(made):
        yield made


@contextlib.asynccontextmanager
async def present(server: OwnServer) -> AsyncIterator[set[int]]:
    """Sessions that stay, so that the clients' workers do; the pids of all processes that stay."""
    async with contextlib.AsyncExitStack() as stack:
        trees = []
        for kind, guid in GUIDS.items():
            control = server.proxy_path if kind == "rdma" else None
            session = await connect(server, control, client_guid=guid)
            await stack.enter_async_context(session)
            trees.append(await session.tree("cached"))
        await open_what_stays_open(*trees)
        for tree in trees:
            await tree.disconnect()
        status = await asyncio.to_thread(server.status)
        workers = {one["pid"] for one in status["workers"] if one["sessions_in_all"]}
        assert len(workers) == len(GUIDS)
        yield {status["pid"], status["proxy_pid"], *workers}


async def open_what_stays_open(one: client.Tree, other: client.Tree) -> None:
    """A worker follows changes from the first name on that is not there, and keeps its connections to others."""
    for tree in (one, other):
        async with await tree.create("FIRST"), await tree.create("first"):
            pass
    for holder, asker in ((one, other), (other, one)):
        held = await holder.create("first", oplock=OplockLevel.BATCH)
        asking = asyncio.create_task(asker.create("first"))
        await holder.session.channels[0].connection.next_unsolicited()
        await held.close()
        await (await asking).close()


def descriptors(pids: set[int]) -> dict[int, Counter[str]]:
    """What each process has open, by kind."""
    found = {}
    for pid in pids:
        links = []
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        found[pid] = Counter(re.sub(r"\[\d+\]", "", link) for link in links)
    return found


async def until_back(before: dict[int, Counter[str]]) -> None:
    """Returns when every process has just what it had before."""
    deadline = time.monotonic() + PATIENCE
    more: object = None
    while time.monotonic() < deadline:
        now = descriptors(set(before))
        more = {pid: now[pid] - before[pid] for pid in now if now[pid] - before[pid]}
        if not more:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"descriptors that were not there before: {more}")


async def fuzz(server: OwnServer) -> tuple[Counter[str], int]:
    """The statuses that came, and how many requests were sent."""
    fuzzers = [
        Fuzzer(server, SEED + number, guid, rdma=kind == "rdma")
        for number, (kind, guid) in enumerate(GUIDS.items())
    ]
    async with present(server) as pids:
        before = descriptors(pids)
        await asyncio.gather(*(one.run(REQUESTS // len(fuzzers)) for one in fuzzers))
        await until_back(before)
    return sum((one.seen for one in fuzzers), Counter()), sum(one.sent for one in fuzzers)


@pytest.mark.timeout(60 + REQUESTS * SECONDS_PER_REQUEST)
def test_fuzz(fuzzed: OwnServer, beside: Beside) -> None:
    before = fuzzed.status()
    seen, sent = asyncio.run(fuzz(fuzzed))
    print(f"seed {SEED}: {sent} requests; {dict(seen.most_common())}")
    log = fuzzed.log.read_text(errors="replace")
    faults = _FAULT.findall(log)
    assert not faults, f"seed {SEED}, {len(faults)} faults\n" + "\n".join(faults[:5])
    beside.assert_untouched()
    assert fuzzed.status()["pid"] == before["pid"]
    assert fuzzed.status()["proxy_pid"] == before["proxy_pid"]
    assert sent >= REQUESTS
    assert seen["0x00000000"] > sent / 20, "it did not get far into the server"
    assert seen["0xc000000d"] > sent / 100
