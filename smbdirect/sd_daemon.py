"""sd-daemon(3): what a service manager such as systemd and a daemon say to each other."""

from __future__ import annotations

import os
import socket
import time

FIRST_LISTENING = 3
"""SD_LISTEN_FDS_START: sockets that are passed begin behind standard error."""


def notify(*assignments: str) -> None:
    """Sends `READY=1` and the like; nothing happens where no service manager listens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            sock.sendto("\n".join(assignments).encode(), address)
        except OSError:
            pass  # a service manager that is not there is none of our business


def notify_reloading() -> None:
    """To be followed by `READY=1`."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def listening_sockets() -> list[socket.socket]:
    """What the service manager listens on for us; it is ours once, and processes that we start get nothing of it."""
    count = os.environ.pop("LISTEN_FDS", "")
    pid = os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets = []
    for fd in range(FIRST_LISTENING, FIRST_LISTENING + int(count)):
        os.set_inheritable(fd, False)
        sockets.append(socket.socket(fileno=fd))
    return sockets
