"""Fabrics and addresses: both ways to find the host's addresses agree on what both know."""

from __future__ import annotations

import pytest

from rdmaproxy import devices
from rdmaproxy.adapters import Adapter, Gid
from rdmaproxy.devices import Address


def test_iwarp_is_there_on_every_host() -> None:
    assert [(fabric.name, fabric.port) for fabric in devices.fabrics()] == [("iwarp", 5445)]


def test_the_loopback_is_found_by_both_ways() -> None:
    for find in (devices._addresses_by_netlink, devices._addresses_by_sysfs):
        found = {address.address: address for address in find()}
        assert found["127.0.0.1"].interface == "lo"
        assert (found["127.0.0.1"].prefix, found["127.0.0.1"].speed) == (8, 0)
        assert found["127.0.0.1"].mtu > 1000


def test_addresses_are_bounded() -> None:
    assert 1 <= len(devices.addresses()) <= devices.ADDRESSES_MAX


GIDS = (Gid(1, "10.0.0.1", "RoCE v2", "eth1"), Gid(3, "fd00::1", "RoCE v2", "eth1"))
ROCE = Adapter("mlx5_0", 1, "RoCE", "ACTIVE", 0, "eth1", GIDS)
OTHER = Adapter("irdma0", 1, "iWARP", "ACTIVE", 0, "eth2", ())


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two adapters, and an interface without one."""
    known = [("eth0", "192.0.2.1"), ("eth1", "10.0.0.1"), ("eth1", "fd00::1"), ("eth2", "10.0.1.1")]
    found = [Address(name, 1, address, 24, 1500, 0) for name, address in known]
    monkeypatch.setattr(devices, "adapters", lambda: [ROCE, OTHER])
    monkeypatch.setattr(devices, "addresses", lambda: found)
    monkeypatch.setattr(devices, "_source", lambda address: address)


@pytest.mark.usefixtures("host")
def test_fabrics_of_a_host_with_adapters() -> None:
    found = [(one.name, one.port, one.devices) for one in devices.fabrics()]
    assert found == [
        ("verbs", 445, ("mlx5_0",)),
        ("verbs", 5445, ("irdma0",)),
        ("iwarp", 5445, ("iwarp",)),
    ]
    assert {one.name for one in devices.fabrics("verbs")} == {"verbs"}
    assert {one.name for one in devices.fabrics("iwarp")} == {"iwarp"}


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("address", "port", "fabric"),
    [
        ("192.0.2.1", 5445, "iwarp"),
        ("10.0.0.1", 445, "verbs"),
        ("10.0.0.1", 5445, "iwarp"),  # not where a RoCE peer would look
        ("10.0.1.1", 5445, "verbs"),
        ("10.0.0.1", 20000, "verbs"),
    ],
)
def test_fabric_of_a_connection(address: str, port: int, fabric: str) -> None:
    assert devices.fabric_for(address, port) == fabric


@pytest.mark.usefixtures("host")
def test_where_a_listener_is_reached() -> None:
    assert devices.reached("verbs", "0.0.0.0") == ["10.0.0.1", "10.0.1.1"]
    assert devices.reached("verbs", "::") == ["fd00::1"]
    assert devices.reached("verbs", "10.0.0.1") == ["10.0.0.1"]
    assert devices.reached("iwarp", "0.0.0.0") == ["0.0.0.0"]
