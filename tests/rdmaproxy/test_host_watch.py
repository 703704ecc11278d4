"""Bursts of kernel events become one call; events that concern nobody become none."""

from __future__ import annotations

import asyncio
import socket

import pytest

from rdmaproxy import host_watch
from rdmaproxy.host_watch import NETLINK_KOBJECT_UEVENT, HostWatch

UVERBS = b"add@/devices/virtual/infiniband_verbs/uverbs0\0ACTION=add\0"
DISK = b"change@/devices/virtual/block/loop0\0ACTION=change\0"


def calls_after(monkeypatch: pytest.MonkeyPatch, *events: tuple[int, bytes]) -> int:
    """How often `changed` is called when these packets come at once."""
    monkeypatch.setattr(host_watch, "SETTLE", 0.01)
    called: list[None] = []

    async def story() -> None:
        watch = HostWatch(lambda: called.append(None))
        ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        with ours, kernel:
            for protocol, packet in events:
                kernel.send(packet)
                watch._on_readable(ours, protocol)
            if watch._due is not None:
                await asyncio.sleep(max(0.0, watch._due.when() - watch._loop.time()) + 0.05)
        watch.close()

    asyncio.run(story())
    return len(called)


def test_an_adapter_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    assert calls_after(monkeypatch, *[(NETLINK_KOBJECT_UEVENT, UVERBS)] * 5) == 1


def test_an_address_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    assert calls_after(monkeypatch, (socket.NETLINK_ROUTE, b"\0" * 40)) == 1


def test_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert calls_after(monkeypatch, (NETLINK_KOBJECT_UEVENT, DISK)) == 0
