"""Bringing a break to a client, one of whose channels may be dead without anybody knowing ([MS-SMB2] 3.3.4.6, 3.3.4.7).

1. the break goes out on the first channel that lives;
2. TCP tells when the client's system has it: then it is the client's turn;
3. a channel on which it does not arrive in time is dead: it is ended, and the next one is tried;
4. when there is none left, nobody can acknowledge any more.

On RDMA the connection ends by itself when a send is not acknowledged, and there is nothing to watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from smbdirect.tcp_delivery import TcpDelivery

if TYPE_CHECKING:
    from smbserver.connection import Connection

FIRST_LOOK = 0.01
"""Seconds until it is first looked whether a break has arrived; then twice as many each time."""

LONGEST_LOOK = 0.2
"""Seconds between two looks at most."""


class BreakDelivery:
    """One break on its way."""

    def __init__(
        self,
        connections: Callable[[], Iterable[Connection]],
        send: Callable[[Connection], None],
        undeliverable: Callable[[], None],
    ) -> None:
        """`connections`: the channels that may carry it, as they are at the time of asking."""
        self._connections = connections
        self._send = send
        self._undeliverable = undeliverable
        self._tried: set[Connection] = set()
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Send it on the next channel that lives and has not been tried."""
        for connection in self._connections():
            if not connection.closed and connection not in self._tried:
                self._tried.add(connection)
                self._send(connection)
                # It is with the socket at the end of the loop's turn.
                self._loop.call_soon(self._begin, connection)
                return
        self._undeliverable()

    def _begin(self, connection: Connection) -> None:
        if connection.closed:
            self.start()
            return
        sock = connection.channel.tcp_socket
        if sock is not None:
            delivery = TcpDelivery(sock)
            give_up = self._loop.time() + delivery.patience
            self._loop.call_later(FIRST_LOOK, self._look, connection, delivery, give_up, FIRST_LOOK)

    def _look(
        self, connection: Connection, delivery: TcpDelivery, give_up: float, pause: float
    ) -> None:
        if connection.closed or connection.channel.tcp_socket is None:  # closed, or just being so
            self.start()
            return
        if delivery.has_arrived and not connection.channel.waiting_bytes:
            return
        if self._loop.time() >= give_up:
            connection.count("channels_ended_deaf")
            delivery.give_up()
            connection.fail(f"a break has not arrived within {delivery.patience:.1f} s")
            self.start()
            return
        pause = min(2 * pause, LONGEST_LOOK)
        self._loop.call_later(pause, self._look, connection, delivery, give_up, pause)
