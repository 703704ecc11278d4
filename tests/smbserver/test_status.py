from __future__ import annotations

import json
from pathlib import Path

from smbserver import client, status
from tests.smbserver.in_process import in_loop, serving


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
        shown = status.table({"sessions": [one], "listening": ["127.0.0.1 port 445"]})
        assert "AES-GMAC(req)" in shown
        assert "2 (0 rdma)" in shown


def test_nobody() -> None:
    assert status.table({"sessions": []}).startswith("no sessions")


def test_dialect_names() -> None:
    names = [status.dialect_name(one) for one in client.options.DIALECTS]
    assert names == ["2.0.2", "2.1", "3.0", "3.0.2", "3.1.1"]
