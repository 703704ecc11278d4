"""moved.py rdma|multichannel|tcp STATUS.JSON DEBUGDATA: did payload go the way it should have gone?

The server's figures of the one session there is, and what the client's /proc/fs/cifs/DebugData says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

LEAST = 64 << 20
"""Bytes that `mount` has moved each way at least: its largest file."""
CHANNELS = {"rdma": 1, "multichannel": 4, "tcp": 1}


def main(how: str, status: str, debug_data: str) -> None:
    sessions = json.loads(Path(status).read_text())["sessions"]
    channels = [channel for session in sessions for channel in session["channels"]]
    for channel in channels:
        print(
            {name: channel[name] for name in ("transport", "fabric", "device", "remote")}, end=" "
        )
        print({name: number for name, number in channel.items() if name.startswith("bytes")})
    assert len(channels) == CHANNELS[how], f"{len(channels)} channels, not {CHANNELS[how]}"

    placed = {way: sum(one[f"bytes_rdma_{way}"] for one in channels) for way in ("written", "read")}
    inline = sum(channel["bytes_inline"] for channel in channels)
    if how == "tcp":
        assert not any(placed.values()), f"placed by RDMA: {placed}"
        assert inline > 2 * LEAST, f"only {inline} bytes moved"
        return
    assert all(channel["transport"] == "rdma" for channel in channels), "not all channels are RDMA"
    assert all(number >= LEAST for number in placed.values()), f"placed by RDMA: {placed}"
    assert inline < LEAST, f"{inline} bytes travelled inline"
    if how == "multichannel":
        used = [one for one in channels if one["bytes_placed_by_rdma"] > 1 << 20]
        assert len(used) > 1, "the payload took one channel"
    client = Path(debug_data).read_text()
    assert "transport status: 2" in client, "the client says nothing of a connected SMB Direct"


if __name__ == "__main__":
    main(*sys.argv[1:])
