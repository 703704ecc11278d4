"""`smbserver serve`: what it says, which ports it takes, and that its check can fail."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from smbserver import own_server, selfcheck, serve
from smbserver.own_server import CheckFailed, OwnServer, OwnServerFailed

TIMEOUT = 90


def served(folder: Path, *options: str) -> OwnServer:
    shared = folder / "share"
    shared.mkdir()
    return OwnServer(
        folder / "run", shared, own_server.free_port(), own_server.free_port(), options=options
    )


def serve_once(*arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "smbserver", "serve", "--once", *arguments),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env=os.environ | {"SMB_PASSWORD": password},
    )


def test_once_ends_with_one_json_object_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    done = serve_once(
        f"--share={shared}",
        f"--port={own_server.free_port()}",
        f"--rdma-port={own_server.free_port()}",
        password="a password of ours",
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {
        "tcp_session": True,
        "rdma_channels": 1,
        "payload_bytes": 2 * selfcheck.PAYLOAD,
        "bytes_placed_by_rdma": 2 * selfcheck.PAYLOAD,
        "bytes_inline": 0,
        "digests_equal": True,
    }
    assert list(shared.iterdir()) == []


def test_a_port_that_is_taken_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve_once(f"--share={tmp_path}", f"--port={port}")
    assert done.returncode == 1
    assert f"TCP port {port} was asked for and is taken by another program" in done.stderr


def test_the_next_usual_port_is_taken_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("", 0)) as taken:
        port, other = taken.getsockname()[1], own_server.free_port()
        assert serve.choose_port("TCP", None, (port, other)) == other
    assert f"port {other}, because {port} is taken by another program" in capsys.readouterr().out


def test_no_rdma_channel_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    without = served(tmp_path, "server multi channel support = no")
    with own_server.running(without), pytest.raises(CheckFailed):
        selfcheck.check(without)


def test_a_wrong_password_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    right = served(tmp_path)
    with own_server.running(right), pytest.raises(CheckFailed, match="LOGON_FAILURE"):
        selfcheck.check(dataclasses.replace(right, password="wrong"))


def test_a_server_that_does_not_start_is_a_failure_with_its_log(tmp_path: Path) -> None:
    with socket.create_server((own_server.LOOPBACK, 0)) as taken:
        unlucky = dataclasses.replace(served(tmp_path), port=taken.getsockname()[1])
        with pytest.raises(OwnServerFailed, match=str(unlucky.port)), own_server.running(unlucky):
            pass
