"""docs/administration.md names every key that programs may rely on; tests/smbserver/test_status.py has the server's."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

from smbdirect.control import Proxy
from smbserver.own_server import RunningProxy

PAGE = Path(__file__).resolve().parents[2] / "docs" / "administration.md"


def test_keys_of_the_proxys_status(proxy: RunningProxy) -> None:
    async def status_of_a_connection() -> str:
        mine = await Proxy.open(proxy.control)
        try:
            listener = await mine.listen("127.0.0.1", 0, "iwarp")
            accepting = asyncio.create_task(listener.accept())
            ours, _ = await mine.connect("127.0.0.1", listener.port)
            theirs, _ = await accepting
            with ours, theirs:
                command = [sys.executable, "-m", "rdmaproxy", "status", "-j"]
                done = await asyncio.to_thread(
                    subprocess.run,
                    [*command, "--socket", proxy.control],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                return done.stdout
        finally:
            await mine.close()

    status = json.loads(asyncio.run(status_of_a_connection()))
    assert len(status["connections"]) == 2
    documented = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    keys = {*status, *status["totals"], *status["connections"][0], *status["listeners"][0]}
    assert not keys - documented
