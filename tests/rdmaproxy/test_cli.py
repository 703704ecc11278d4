"""The command line: exit codes, and a status that people and programs can read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rdmaproxy.cli import main
from rdmaproxy.config import describe
from smbdirect.control import Proxy
from tests.rdmaproxy.running import Daemon, channels, run, running


def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["walk"], ["run", "--fast"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "usage: rdmaproxy" in capsys.readouterr().err


def test_failure_is_1_and_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--socket", str(tmp_path / "control")]) == 1
    assert "start one with `rdmaproxy run`" in capsys.readouterr().err
    assert main(["run", "--option", "colour=red"]) == 1
    assert "there is no parameter 'colour'" in capsys.readouterr().err
    assert main(["run", "-d", "loud"]) == 1
    assert "log level = loud: is not a number" in capsys.readouterr().err
    assert main(["run", "--configfile", str(tmp_path / "nowhere")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_parameters_are_an_example_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parameters"]) == 0
    assert capsys.readouterr().out == describe()


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    shown = capsys.readouterr().out
    assert "fabric iwarp, port 5445" in shown
    assert "address 127.0.0.1/8 on lo" in shown
    assert main(["devices", "-j"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [fabric["name"] for fabric in found["fabrics"]] == ["iwarp"]
    assert "127.0.0.1" in [address["address"] for address in found["addresses"]]


def test_the_module_is_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rdmaproxy", "status", "--socket", str(tmp_path / "control")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no proxy answers" in done.stderr


def test_status_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with running() as daemon:
        run_status(daemon, capsys)


def run_status(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        proxy = await Proxy.open(daemon.control)
        client, server = await channels(proxy)
        process = [sys.executable, "-m", "rdmaproxy", "status", "--socket", daemon.control]
        table = subprocess.run(process, capture_output=True, text=True, check=True).stdout
        assert f"pid {daemon.process.pid}" in table
        assert "2 connections (0 negotiating), 1 listeners" in table
        assert f"listening on 127.0.0.1:{server.facts.local[1]} (iwarp)" in table
        assert "channel_opened 2" in table
        status = json.loads(
            subprocess.run([*process, "-j"], capture_output=True, text=True, check=True).stdout
        )
        assert status["pid"] == daemon.process.pid
        assert {one["role"] for one in status["connections"]} == {"client", "server"}
        client.close()
        server.close()
        await proxy.close()

    run(story)


def test_a_second_daemon_on_the_same_socket_is_1() -> None:
    with running() as daemon:
        second = subprocess.run(
            [sys.executable, "-m", "rdmaproxy", "run", "--socket", daemon.control],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert second.returncode == 1
        assert "another rdmaproxy" in second.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_the_way_to_end_it(number: signal.Signals) -> None:
    with running() as daemon:
        assert "READY=1" in daemon.notifications
        os.kill(daemon.process.pid, number)
        assert daemon.process.wait(20) == 0
        assert not Path(daemon.control).exists()
        assert f"event=draining why={number.name}" in daemon.log


def test_descriptors_are_raised_to_the_hard_limit() -> None:
    with running() as daemon:
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
        soft, hard = re.search(r"Max open files\s+(\S+)\s+(\S+)", limits).groups()  # type: ignore[union-attr]
        assert soft == hard
