"""Asking the kernel by netlink for all objects of a kind; rtnetlink(7), rdma/rdma_netlink.h.

By hand, because it is asked for inside an event loop, where a library with one of its own cannot be used.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
DUMP_REQUEST = 0x0301
DONE, ERROR = 3, 2
ANSWER_TIME = 2.0
"""Seconds that the kernel has to answer."""
PACKET_MAX = 1 << 16


def connect(protocol: int) -> socket.socket:
    """Raises OSError where the kernel has no such family."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    sock.settimeout(ANSWER_TIME)
    return sock


def dump(sock: socket.socket, kind: int, body: bytes = b"") -> Iterator[bytes]:
    """The answers to one request, without their headers."""
    sock.send(HEADER.pack(HEADER.size + len(body), kind, DUMP_REQUEST, kind, 0) + body)
    while True:
        packet = sock.recv(PACKET_MAX)
        while len(packet) >= HEADER.size:
            length, kind, _, _, _ = HEADER.unpack_from(packet)
            if kind in (DONE, ERROR) or length < HEADER.size:
                return
            yield packet[HEADER.size : length]
            packet = packet[(length + 3) & ~3 :]


def attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value


def attributes(message: bytes) -> dict[int, bytes]:
    """By number; of several with the same number the last one."""
    found: dict[int, bytes] = {}
    while len(message) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(message)
        if length < ATTRIBUTE.size:
            break
        found[kind] = message[ATTRIBUTE.size : length]
        message = message[(length + 3) & ~3 :]
    return found
