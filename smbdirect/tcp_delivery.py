"""Whether bytes that were sent by TCP have reached the peer's system: what it acknowledged, told by TCP_INFO.

A path can die without anybody noticing: TCP goes on to repeat for a quarter of an hour.
"""

from __future__ import annotations

import socket
import termios
from array import array
from fcntl import ioctl
from struct import Struct

_INFO = Struct("<8xI108xQ")
"""tcpi_rto and tcpi_bytes_acked of struct tcp_info (linux/tcp.h)."""

RETRANSMISSIONS = 6
"""Timeouts in a row after which a path counts as dead; what Samba waits."""

_NO_LINGER = Struct("ii").pack(1, 0)
"""struct linger: what has not been sent is forgotten."""

SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 0.2, 1.0
"""Seconds that one of them counts: less is the noise of a busy host, and more is what has already been doubled."""


class TcpDelivery:
    """Made when the bytes in question have been handed to the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        microseconds, acknowledged = self._info()
        on_the_way = array("i", [0])
        ioctl(sock.fileno(), termios.TIOCOUTQ, on_the_way)
        self._target = acknowledged + on_the_way[0]
        timeout = min(max(microseconds / 1e6, SHORTEST_TIMEOUT), LONGEST_TIMEOUT)
        self.patience = RETRANSMISSIONS * timeout
        """Seconds after which they must have arrived."""

    @property
    def has_arrived(self) -> bool:
        """Whether the peer's system has acknowledged them. OSError when the socket is closed."""
        return self._info()[1] >= self._target

    def give_up(self) -> None:
        """Closing the socket will reset the connection: nothing waits for a peer that acknowledges nothing."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)

    def _info(self) -> tuple[int, int]:
        raw = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        microseconds, acknowledged = _INFO.unpack(raw)
        return microseconds, acknowledged
