"""The doctor says what it saw: with a proxy, without one, and of adapters that are described to it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rdmaproxy import doctor
from rdmaproxy.adapters import Adapter, Gid
from rdmaproxy.devices import Address
from rdmaproxy.doctor import Check, Host, Verdict
from smbdirect.control import Proxy
from smbserver.own_server import RunningProxy

NAMES = [
    "adapters",
    "memlock",
    "device limits",
    "listeners",
    "interface answer",
    "client",
    "loop test",
]
GIDS = (Gid(1, "10.0.0.1", "RoCE v2", "eth1"),)
ROCE = Adapter("mlx5_0", 1, "RoCE", "ACTIVE", 100_000_000_000, "eth1", GIDS)
PLACE = Address("eth1", 3, "10.0.0.1", 24, 9000, 100_000_000_000)


def host(*, state: str = "ACTIVE", address: bool = True, **status: Any) -> Host:
    adapter = Adapter("mlx5_0", 1, "RoCE", state, ROCE.speed, "eth1", GIDS)
    made = Host(adapters=[adapter], behind=[(PLACE, adapter)] if address else [])
    made.status = {"listeners": [], "connections": [], **status}
    return made


def test_without_a_proxy(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "rdmaproxy",
        "doctor",
        "-j",
        "--socket",
        str(tmp_path / "none"),
    ]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    checks = {one["name"]: one for one in json.loads(run.stdout)["checks"]}
    assert list(checks) == NAMES
    assert run.returncode == 1
    assert checks["listeners"]["verdict"] == Verdict.FAIL
    assert "rdmaproxy run" in checks["listeners"]["remedy"]
    for name in ("interface answer", "client", "loop test"):
        assert checks[name]["verdict"] == Verdict.SKIPPED


def test_with_a_proxy(proxy: RunningProxy) -> None:
    async def story() -> list[Check]:
        control = await Proxy.open(proxy.control)
        listener = await control.listen("127.0.0.1", 0, "iwarp")
        checks = await doctor.examine(proxy.control, "192.0.2.9")
        await listener.close()
        await control.close()
        return checks

    checks = asyncio.run(story())
    verdicts = {check.name: check.verdict for check in checks}
    assert verdicts["loop test"] is Verdict.OK
    assert verdicts["client 192.0.2.9"] is Verdict.WARN
    assert "64 KiB written and read" in checks[-1].fact
    assert all(check.remedy for check in checks if check.verdict in (Verdict.FAIL, Verdict.WARN))


def test_adapters() -> None:
    assert doctor.check_devices(Host(adapters=[], behind=[])).verdict is Verdict.SKIPPED
    assert doctor.check_devices(host()).verdict is Verdict.OK
    assert doctor.check_devices(host(state="DOWN")).verdict is Verdict.FAIL
    check = doctor.check_devices(host(address=False))
    assert check.verdict is Verdict.FAIL
    assert "no address" in check.fact


@pytest.mark.parametrize(
    ("limit", "capabilities", "verdict"),
    [
        ("unlimited", "0", Verdict.OK),
        ("8388608", "0", Verdict.FAIL),
        ("8388608", "4000", Verdict.OK),  # CAP_IPC_LOCK
        ("99999999999", "0", Verdict.OK),
    ],
)
def test_memlock(
    tmp_path: Path, limit: str, capabilities: str, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "limits").write_text(f"Limit\nMax locked memory  {limit} {limit} bytes\n")
    (tmp_path / "status").write_text(f"Name: x\nCapEff:\t{capabilities}\n")
    read = doctor._memlock
    monkeypatch.setattr(doctor, "_memlock", lambda process: read(tmp_path))
    made = host(totals={"registered_bytes": 1 << 20, "memory_limit": 16 << 30})
    made.proxy = Proxy.__new__(Proxy)
    made.proxy.hello = {"pid": 1}
    check = doctor.check_memlock(made)
    assert check.verdict is verdict
    assert verdict is not Verdict.FAIL or "limit 8 MiB" in check.fact


def test_poor_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict.fromkeys(doctor.WANTED, 1000)
    monkeypatch.setattr(doctor.adapters, "limits", lambda device: known)
    assert doctor.check_limits(host()).verdict is Verdict.OK
    known["max_qp_wr"] = 64
    check = doctor.check_limits(host())
    assert check.verdict is Verdict.WARN
    assert "mlx5_0 max_qp_wr" in check.remedy
    known.clear()
    assert doctor.check_limits(host()).verdict is Verdict.SKIPPED


def test_adapter_without_a_listener() -> None:
    made = host(listeners=[{"fabric": "iwarp", "port": 5445, "address": "0.0.0.0"}])
    made.proxy = Proxy.__new__(Proxy)
    check = doctor.check_listeners(made)
    assert check.verdict is Verdict.WARN
    assert "smbdirect:445" in check.remedy
