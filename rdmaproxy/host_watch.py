"""Tells when the host's adapters or addresses change: by the kernel's netlink events, without looking periodically."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

NETLINK_KOBJECT_UEVENT = 15
KERNEL_EVENTS = 1
"""The kernel's own group, not udev's."""
ADDRESS_EVENTS = 0x10 | 0x100
"""RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of rtnetlink(7)."""
SETTLE = 1.0
"""Seconds from the first event to the look: one change makes many, and GIDs follow addresses a little later."""


class HostWatch:
    """Calls `changed` in the event loop, once for each burst of events."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.TimerHandle | None = None
        self._sockets: list[socket.socket] = []
        for protocol, groups in (
            (NETLINK_KOBJECT_UEVENT, KERNEL_EVENTS),
            (socket.NETLINK_ROUTE, ADDRESS_EVENTS),
        ):
            self._listen(protocol, groups)

    def _listen(self, protocol: int, groups: int) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            sock = socket.socket(socket.AF_NETLINK, kind, protocol)
            self._sockets.append(sock)
            sock.bind((0, groups))
        except OSError:
            return  # a container without netlink: what there is at the start is all there is
        self._loop.add_reader(sock, self._on_readable, sock, protocol)

    def _on_readable(self, sock: socket.socket, protocol: int) -> None:
        try:
            packet = sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            packet = b"/infiniband"  # some were lost: look
        concerns_us = protocol == socket.NETLINK_ROUTE or b"/infiniband" in packet
        if concerns_us and self._due is None:
            self._due = self._loop.call_later(SETTLE, self._tell)

    def _tell(self) -> None:
        self._due = None
        self._changed()

    def close(self) -> None:
        if self._due is not None:
            self._due.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
