from __future__ import annotations

import logging
from ipaddress import ip_address
from pathlib import Path

import pytest

from smbserver.interfaces import (
    DEFAULT_SPEED,
    LOOPBACK_SPEED,
    Address,
    addresses,
    link_speed,
    offered,
    selected,
)
from smbserver.wire.interface_info import InterfaceCapability

RSS, RDMA = InterfaceCapability.RSS_CAPABLE, InterfaceCapability.RDMA_CAPABLE
KNOWN = [
    Address("lo", 1, ip_address("127.0.0.1")),
    Address("eth7", 7, ip_address("10.0.0.1")),
    Address("eth7", 7, ip_address("fd00::1")),
]


def test_the_kernel_is_asked() -> None:
    assert any(one.address == ip_address("127.0.0.1") for one in addresses())


def test_once_for_tcp_and_once_more_for_rdma() -> None:
    entries = offered(KNOWN, (), ("10.0.0.1",))
    assert [(str(one.address), one.capability) for one in entries] == [
        ("127.0.0.1", RSS),
        ("10.0.0.1", RSS),
        ("10.0.0.1", RSS | RDMA),
        ("fd00::1", RSS),
    ]
    assert {one.if_index for one in entries} == {1, 7}


def test_a_wildcard_stands_for_its_family() -> None:
    entries = offered(KNOWN, (), ("0.0.0.0",))
    assert [str(one.address) for one in entries if one.rdma_capable] == ["127.0.0.1", "10.0.0.1"]


def test_configuration_selects_and_overrides() -> None:
    rule = "eth*;speed=100,capability=RSS,capability=RDMA,if_index=3"
    entries = offered(KNOWN, (rule,), ("0.0.0.0",))
    assert [(str(one.address), one.link_speed, one.if_index) for one in entries] == [
        ("10.0.0.1", 100, 3),
        ("10.0.0.1", 100, 3),
        ("fd00::1", 100, 3),
    ]
    assert [one.interface for one in selected(KNOWN, ("127.0.0.0/8",))] == ["lo"]
    assert selected(KNOWN, ()) == KNOWN
    assert [e.capability for e in offered(KNOWN, ("10.0.0.1;capability=RSS",), ("::",))] == [RSS]


def test_rdma_without_a_proxy_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        entries = offered(KNOWN, ("eth7;capability=RDMA", "lo;sped=1"), ())
    assert not any(one.rdma_capable for one in entries)
    assert [record.getMessage().split(":")[0] for record in caplog.records].count("interfaces") == 3


@pytest.mark.parametrize(
    ("content", "speed"),
    [
        ("10000\n", 10_000_000_000),
        ("-1\n", DEFAULT_SPEED),
        ("", DEFAULT_SPEED),
        (None, DEFAULT_SPEED),
    ],
)
def test_link_speed(tmp_path: Path, content: str | None, speed: int) -> None:
    (tmp_path / "eth7").mkdir()
    if content is not None:
        (tmp_path / "eth7" / "speed").write_text(content)
    assert link_speed("eth7", tmp_path) == speed
    assert link_speed("lo", tmp_path) == LOOPBACK_SPEED
