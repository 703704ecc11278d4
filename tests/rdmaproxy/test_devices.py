"""Fabrics and addresses: both ways to find the host's addresses agree on what both know."""

from __future__ import annotations

from rdmaproxy import devices


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
