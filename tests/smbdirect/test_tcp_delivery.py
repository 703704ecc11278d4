from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from smbdirect.tcp_delivery import LONGEST_TIMEOUT, RETRANSMISSIONS, SHORTEST_TIMEOUT, TcpDelivery

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a connection over loopback; the second has room for little."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    with one, other:
        yield one, other


def test_what_the_peers_system_has(pair: Pair) -> None:
    one, other = pair
    one.sendall(b"break")
    delivery = TcpDelivery(one)
    assert other.recv(5) == b"break"
    assert delivery.has_arrived
    assert SHORTEST_TIMEOUT <= delivery.patience / RETRANSMISSIONS <= LONGEST_TIMEOUT


def test_what_the_peers_system_has_no_room_for(pair: Pair) -> None:
    one, other = pair
    one.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += one.send(bytes(65536))
    delivery = TcpDelivery(one)
    assert not delivery.has_arrived
    while sent:
        sent -= len(other.recv(65536))
    assert delivery.has_arrived


def test_a_peer_that_is_given_up_sees_a_reset(pair: Pair) -> None:
    one, other = pair
    delivery = TcpDelivery(one)
    delivery.give_up()
    one.close()
    with pytest.raises(ConnectionResetError):
        other.recv(1)
