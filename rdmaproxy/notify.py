"""Telling the service manager how we are (sd_notify(3)), by its socket."""

from __future__ import annotations

import os
import socket


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
