"""What is said of adapters, against what rdma-core's own tools say of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from rdmaproxy import adapters, devices
from rdmaproxy.adapters import Adapter, Gid

Found = tuple[devices.Address, Adapter]
TIMEOUT = 60
"""Seconds; an emulated machine starts Python in five."""


def run(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=TIMEOUT
    ).stdout


def test_links(adapter: Found, program: Callable[[str], str]) -> None:
    links = json.loads(run(program("rdma"), "-j", "link"))
    shown = {
        (link["ifname"], link["port"], link["state"], link.get("netdev", "")) for link in links
    }
    known = adapters.adapters()
    assert {(one.device, one.port, one.state, one.interface) for one in known} == shown


def test_limits(adapter: Found, program: Callable[[str], str]) -> None:
    pytest.importorskip("pyverbs.device", exc_type=ImportError)
    text = run(program("ibv_devinfo"), "-v", "-d", adapter[1].device)
    found = adapters.limits(adapter[1].device)
    for name in ("max_qp_wr", "max_cqe", "max_sge", "max_mr", "max_qp_rd_atom"):
        match = re.search(rf"^\s*{name}:\s*(\d+)", text, re.MULTILINE)
        assert match is not None, name
        assert found[name] == int(match[1]), name


def listed(ibv_devices: str) -> set[str]:
    """A kernel that knows nothing of RDMA has no list at all."""
    done = subprocess.run(
        [ibv_devices], check=False, capture_output=True, text=True, timeout=TIMEOUT
    )
    if done.returncode != 0:
        assert "Function not implemented" in done.stderr
        return set()
    return {line.split()[0] for line in done.stdout.splitlines()[2:]}  # behind the heading


def test_command(program: Callable[[str], str]) -> None:
    """`rdmaproxy devices` lists what rdma-core lists, also where that is nothing."""
    shown = json.loads(run(sys.executable, "-m", "rdmaproxy", "devices", "-j"))
    assert {one["device"] for one in shown["adapters"]} == listed(program("ibv_devices"))
    named = {name for fabric in shown["fabrics"] for name in fabric["devices"]}
    assert named == {one["device"] for one in shown["adapters"]} | {"iwarp"}


def test_port(adapter: Found, program: Callable[[str], str]) -> None:
    """State, transport, GIDs and speed of a port, against ibv_devinfo and the kernel."""
    found = adapter[1]
    text = run(program("ibv_devinfo"), "-v", "-d", found.device, "-i", str(found.port))
    said = dict(re.findall(r"^\s*(\w+):\s*(\S+)", text, re.MULTILINE))
    assert said["state"] == f"PORT_{found.state}"
    layer = "InfiniBand" if found.transport == "InfiniBand" else "Ethernet"
    assert said["link_layer"] == layer
    assert (said["transport"] == "iWARP") == (found.transport == "iWARP")
    gids = re.findall(r"GID\[\s*(\d+)\]:\s*([0-9a-f:.]+)", text)
    assert {(gid.index, gid.address) for gid in found.gids} == {
        (int(index), str(ip_address(gid).ipv4_mapped or gid)) for index, gid in gids
    }
    width, speed = said["active_width"], float(re.search(r"active_speed:\s*([\d.]+)", text)[1])
    assert found.speed == pytest.approx(int(width.rstrip("X")) * speed * 1e9, rel=0.05)


def test_addresses_of_the_adapter(adapter: Found) -> None:
    address, found = adapter
    assert adapters.behind(address.address, address.interface, adapters.adapters()) == found
    assert devices.fabric_for(address.address, found.smb_direct_port) == "verbs"
    assert devices.fabric_for("127.0.0.1", found.smb_direct_port) == "iwarp"
    assert found.state == "ACTIVE"


def test_what_is_behind_an_address() -> None:
    gids = (Gid(1, "10.0.0.1", "RoCE v2", "eth0.7"),)
    roce = Adapter("mlx5_0", 1, "RoCE", "ACTIVE", 100, "eth0", gids)
    iwarp = Adapter("irdma0", 1, "iWARP", "ACTIVE", 100, "eth1", ())
    known = [roce, iwarp]
    assert adapters.behind("10.0.0.1", "eth0.7", known) is roce
    assert adapters.behind("10.0.0.2", "eth0", known) is None  # no GID: no RDMA
    assert adapters.behind("10.0.0.3", "eth1", known) is iwarp
    assert adapters.behind("10.0.0.3", "eth2", known) is None
    assert (roce.smb_direct_port, iwarp.smb_direct_port) == (445, 5445)
