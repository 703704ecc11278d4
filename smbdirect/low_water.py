"""How many bytes make a TCP socket readable. Each wake-up costs both ends: the sender's kernel wakes the reader."""

from __future__ import annotations

import socket

LOW_WATER_MAX = 512 << 10
"""Bytes: more would save little, and what has come would be copied only after the rest of a message has, too."""


class LowWater:
    """SO_RCVLOWAT of one socket. A Unix socket does not know it, and is left alone.

    The end of the stream wakes in any case, and so does a receive window that has no room for as much.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock if sock.family in (socket.AF_INET, socket.AF_INET6) else None
        self._count = 1

    def set(self, count: int) -> None:
        """Not after the socket was closed."""
        count = min(count, LOW_WATER_MAX)
        if self._sock is not None and count != self._count:
            self._count = count
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
