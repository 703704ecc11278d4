from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from smbserver import client, status, status_table
from smbserver.client.connection import Request
from smbserver.wire.create import OplockLevel
from smbserver.wire.header import Command, Header
from smbserver.wire.lock import LockElement, LockRequest
from smbserver.wire.negotiate import Dialect
from tests.smbserver.in_process import in_loop, serving

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "administration.md"


@in_loop
async def test_sessions_and_channels(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(client.Options(sign=True))
        await session.bind(await running.connection(session.options))
        tree = await session.tree("share")
        file = await tree.create("file")
        await file.write(0, bytes(1000))
        told = json.loads(json.dumps(status.describe(running.service)))
        (one,) = told["sessions"]
        assert one["user"] == "alice"
        assert one["client"] == "127.0.0.1"
        assert (one["dialect"], one["signing"], one["opens"]) == ("3.1.1", "AES-GMAC", 1)
        assert one["signing_required"]
        assert one["trees"] == ["share"]
        assert [channel["transport"] for channel in one["channels"]] == ["tcp", "tcp"]
        assert sum(channel["bytes_inline_received"] for channel in one["channels"]) > 1000
        shown = status_table.sessions({"sessions": [one], "listening": ["127.0.0.1 port 445"]})
        assert "AES-GMAC(req)" in shown
        assert "2 (0 rdma)" in shown
        assert one["why_not_rdma"] in shown


@in_loop
async def test_open_files_and_locks(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        file = await tree.create("file", oplock=OplockLevel.BATCH)
        await tree.create("file:stream")
        await tree.open_directory()
        lock = LockRequest(file.file_id, (LockElement(100, 20, 0x12),))
        header = Header(command=Command.LOCK, session_id=session.id, tree_id=tree.id)
        (sent,) = await session.channels[0].connection.send([Request(header, (lock.pack(),))])
        (await sent.answer).expect()
        told = json.loads(json.dumps(status.describe(running.service, files=True)))
        (one,) = told["sessions"]
        by_path = {opened["path"]: opened for opened in one["open_files"]}
        assert set(by_path) == {"file", "file:STREAM", ""}
        assert by_path["file"]["caching"] == "rhw"
        assert by_path["file"]["locks"] == [{"offset": 100, "length": 20, "exclusive": True}]
        assert by_path[""]["is_directory"]
        assert "rhw" in status_table.opens(told)
        assert re.search(r"100 +20 +exclusive +share/file", status_table.locks(told))


@pytest.mark.parametrize(
    ("lines", "options", "words"),
    [
        (("server multi channel support = no",), {}, "server multi channel support = no"),
        ((), {"dialects": (Dialect.SMB_2_1,)}, "dialect 2.1 knows no RDMA"),
        ((), {}, "no rdmaproxy listens"),
    ],
)
@in_loop
async def test_why_not_rdma(
    tmp_path: Path, lines: tuple[str, ...], options: dict[str, Any], words: str
) -> None:
    async with serving(tmp_path, *lines) as running:
        await running.session(client.Options(**options))
        (one,) = status.describe(running.service)["sessions"]
        assert one["why_not_rdma"] == words


@in_loop
async def test_why_not_rdma_once_a_proxy_listens(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:

        def why() -> str:
            (one,) = status.describe(running.service)["sessions"]
            return str(one["why_not_rdma"])

        running.service.rdma_addresses = ("192.0.2.1",)
        session = await running.session()
        assert why() == "the client has not asked for the interfaces"
        await client.interfaces(session)
        assert why() == "no interface that the client can reach has RDMA"
        running.service.rdma_addresses = ("127.0.0.1",)
        await client.interfaces(session)
        assert why() == "the client was told of 127.0.0.1 and has not connected there"


@in_loop
async def test_every_key_is_documented(tmp_path: Path) -> None:
    documented = set(re.findall(r"`(\w+)`", DOCUMENTED.read_text()))
    async with serving(tmp_path) as running:
        tree = await (await running.session()).tree("share")
        await tree.create("file")
        told = status.describe(running.service, files=True)
        assert not _keys(told) - documented


def _keys(told: Any) -> set[str]:
    if isinstance(told, list):
        return set().union(*map(_keys, told))
    if not isinstance(told, dict):
        return set()
    inner = (_keys(value) for key, value in told.items() if key != "counters")
    return set(told).union(*inner)


def test_rates() -> None:
    def moved(sent: int, received: int) -> dict[str, Any]:
        channel = {
            "remote": "192.0.2.1:1",
            "bytes_inline_sent": sent,
            "bytes_inline_received": 0,
            "bytes_rdma_written": 0,
            "bytes_rdma_read": received,
        }
        return {"sessions": [{"session": "0x1", "channels": [channel]}]}

    now = moved(3000, 8000)
    status_table.add_rates(moved(1000, 0), now, 2.0)
    (channel,) = now["sessions"][0]["channels"]
    assert (channel["read_rate"], channel["write_rate"]) == (1000, 4000)


def test_nobody() -> None:
    assert status_table.sessions({"sessions": []}).startswith("no sessions")
    assert status_table.opens({"sessions": []}) == "no open files"
    assert status_table.locks({"sessions": []}) == "no locks"


def test_dialect_names() -> None:
    names = [status.dialect_name(one) for one in client.options.DIALECTS]
    assert names == ["2.0.2", "2.1", "3.0", "3.0.2", "3.1.1"]
