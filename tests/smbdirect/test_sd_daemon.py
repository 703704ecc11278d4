"""What the service manager is told, in both kinds of addresses, and the sockets that it passes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from smbdirect.sd_daemon import listening_sockets, notify


@pytest.mark.parametrize("abstract", [False, True])
def test_assignments_arrive_in_one_datagram(
    abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"@rdmaproxy-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1) if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1", "STATUS=well")
        assert manager.recv(100) == b"READY=1\nSTATUS=well"


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "vsock:2:1234"])
def test_without_a_manager_nothing_happens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify("READY=1")


@pytest.mark.parametrize(("pid", "count"), [("", ""), ("1", "1"), (str(os.getpid()), "x")])
def test_sockets_for_another_process_are_not_ours(
    pid: str, count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", pid)
    monkeypatch.setenv("LISTEN_FDS", count)
    assert listening_sockets() == []
    assert "LISTEN_FDS" not in os.environ
    assert "LISTEN_PID" not in os.environ
