"""Wireshark's dissectors, an independent reader, decode what we put on the wire."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdmaproxy.capture import INTERVAL
from smbserver.client import connect
from smbserver.own_server import LOOPBACK, OwnServer, RunningProxy
from tests.interop import pcap
from tests.interop.relay import relay

pytestmark = pytest.mark.interop

MIB = 1 << 20
TIMEOUT = 60
"""Seconds for tshark; it takes two."""


async def short_session(server: OwnServer, proxy: RunningProxy, port: int) -> None:
    """Files of three sizes, a listing, a delete."""
    session = await connect(
        LOOPBACK,
        user=server.user,
        password=server.password,
        rdma="only",
        rdma_port=port,
        control=proxy.control,
    )
    async with session, await session.tree(server.share) as tree:
        for size in (17, 65_536, 2 * MIB):
            data = bytes(range(256)) * (size // 256) + bytes(size % 256)
            async with await tree.create(f"of {size} bytes") as file:
                await file.write(0, data)
                assert await file.read(0, size) == data
        async with await tree.open_directory() as folder:
            names = {entry.file_name async for entry in folder.list()}
        assert "of 17 bytes" in names
        await tree.delete("of 17 bytes")


def by_a_relay(server: OwnServer, proxy: RunningProxy, path: Path) -> None:
    """What travels between the two, as it is."""

    async def session() -> list[pcap.Piece]:
        async with relay(LOOPBACK, server.rdma_port) as recorded:
            await short_session(server, proxy, recorded.port)
            return recorded.pieces

    pcap.write(path, server.rdma_port, asyncio.run(session()))


def by_rdmaproxy(server: OwnServer, proxy: RunningProxy, path: Path) -> None:
    """What the client's proxy says that it sends and receives."""
    command = [sys.executable, "-m", "rdmaproxy", "capture", "--socket", proxy.control]
    capture = subprocess.Popen([*command, "-w", str(path)])
    try:
        while not path.exists() or not path.stat().st_size:
            assert capture.poll() is None
            time.sleep(0.02)
        asyncio.run(short_session(server, proxy, server.rdma_port))
        time.sleep(3 * INTERVAL)  # so that the last messages are in the file
    finally:
        capture.send_signal(signal.SIGINT)
        assert capture.wait(TIMEOUT) == 0


@pytest.fixture(scope="module", params=[by_a_relay, by_rdmaproxy])
def capture(
    request: pytest.FixtureRequest,
    server: OwnServer,
    proxy: RunningProxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Traffic of the RDMA port during a short session."""
    path = tmp_path_factory.mktemp("capture") / "session"
    request.param(server, proxy, path)
    return path


@pytest.fixture(scope="module")
def decoded(capture: Path, program: Callable[[str], str]) -> list[dict[str, Any]]:
    """Every frame as tshark's protocols and the fields that are looked at."""
    fields = ("frame.number", "frame.protocols", "_ws.malformed", "_ws.expert.severity", "smb2.cmd")
    command = [program("tshark"), "-r", str(capture), "-T", "json"]
    command += ["-o", "tcp.try_heuristic_first:TRUE"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    return [frame["_source"]["layers"] for frame in json.loads(done.stdout)]


def test_all_layers_are_recognised(decoded: list[dict[str, Any]]) -> None:
    protocols = Counter(
        protocol for frame in decoded for protocol in frame["frame.protocols"][0].split(":")
    )
    for protocol in ("iwarp_mpa", "iwarp_ddp_rdmap", "smb_direct", "smb2"):
        assert protocols[protocol] > 0, f"no frame of {protocol} among {dict(protocols)}"


def test_every_command_of_the_session_is_seen(decoded: list[dict[str, Any]]) -> None:
    commands = {int(number) for frame in decoded for number in frame.get("smb2.cmd", ())}
    negotiate, setup, tree, create, close, read, write, listing = 0, 1, 3, 5, 6, 8, 9, 14
    assert {negotiate, setup, tree, create, close, read, write, listing} <= commands


def test_nothing_is_malformed(decoded: list[dict[str, Any]]) -> None:
    broken = [frame["frame.number"][0] for frame in decoded if "_ws.malformed" in frame]
    assert broken == []
