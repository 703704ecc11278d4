"""The doctor on this host as it is: with an adapter all is well, until its link is down; without one it says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rdmaproxy import adapters, devices
from rdmaproxy.adapters import Adapter
from rdmaproxy.doctor import Verdict
from smbdirect.control import Proxy
from smbserver.own_server import RunningProxy

TIMEOUT = 90
"""Seconds; an emulated machine needs twenty."""

Tell = Callable[[Callable[[Proxy], object]], None]


def doctor(proxy: RunningProxy) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the checks by their names."""
    command = [sys.executable, "-m", "rdmaproxy", "doctor", "-j", "--socket", proxy.control]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    return run.returncode, {one["name"]: one for one in json.loads(run.stdout)["checks"]}


def test_without_an_adapter(proxy: RunningProxy) -> None:
    if adapters.adapters():
        pytest.skip("this host has an RDMA adapter")
    _, checks = doctor(proxy)
    for name in ("adapters", "memlock", "device limits"):
        assert checks[name]["verdict"] == Verdict.SKIPPED
    assert checks["loop test"]["verdict"] == Verdict.OK
    assert "verbs" not in checks["loop test"]["fact"]


def test_all_is_well(
    tell: Tell, adapter: tuple[devices.Address, Adapter], proxy: RunningProxy
) -> None:
    address, found = adapter

    async def story(control: Proxy) -> None:
        listener = await control.listen(address.address, found.smb_direct_port, "verbs")
        code, checks = doctor(proxy)
        verdicts = {name: check["verdict"] for name, check in checks.items()}
        assert verdicts.pop("client") == Verdict.SKIPPED
        assert (code, set(verdicts.values())) == (0, {Verdict.OK})
        assert f"{found.device}/{found.port}" in checks["adapters"]["fact"]
        assert f"verbs at {address.address}" in checks["loop test"]["fact"]
        assert f"{address.address}" in checks["interface answer"]["fact"]
        for name, value in adapters.limits(found.device).items():
            if f"{name} " in checks["device limits"]["fact"]:
                assert f"{name} {value}" in checks["device limits"]["fact"]
        await listener.close()

    tell(story)


@pytest.mark.skipif(
    os.environ.get("LAB_FABRIC") != "rxe", reason="changes the host's links: only in soft-roce/run"
)
def test_link_down(adapter: tuple[devices.Address, Adapter], proxy: RunningProxy) -> None:
    interface = adapter[1].interface
    subprocess.run(["ip", "link", "set", interface, "down"], check=True, timeout=TIMEOUT)
    try:
        code, checks = doctor(proxy)
    finally:
        subprocess.run(["ip", "link", "set", interface, "up"], check=True, timeout=TIMEOUT)
    assert code == 1
    assert checks["adapters"]["verdict"] == Verdict.FAIL
    assert checks["adapters"]["remedy"]
    assert Verdict.OK not in {checks[name]["verdict"] for name in ("memlock", "device limits")}
