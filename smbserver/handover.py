"""Packets between the listener and its workers: one JSON object each, with bytes and one descriptor if need be.

A `SOCK_SEQPACKET` pair. The listener says

    {"op": "connection", "facts": CHANNEL}   a client: its socket comes along, and the bytes already read from it
    {"op": "rdma", "addresses": [...]}       where the proxy listens now
    {"op": "ask", "id": N, "request": {...}}   what an administrator asks: smbserver/administration.py
    {"op": "gone", "worker": N}              that worker has died, and what it had in the store is removed
    {"op": "reload"}                         read the configuration again

and a worker says

    {"op": "answer", "id": N, "more": bool}  a piece of the answer's JSON comes along; more: it is not the last
    {"op": "idle", "served": N}              all N connections have ended; it ends when the listener closes the pair
"""

from __future__ import annotations

import asyncio
import json
import socket
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_PACKET = 160 << 10
"""Bytes of one packet; the default send buffer of a Unix socket holds 208 KiB."""

MAX_QUEUED = 4096
"""Packets that wait for a worker which does not read; it is stuck then."""

_DESCRIPTORS = array("i", [0]).itemsize

OnPacket = Callable[[dict[str, Any], bytes, socket.socket | None], None]


class Link:
    """One end of the pair. Belongs to one asyncio loop."""

    def __init__(
        self, sock: socket.socket, on_packet: OnPacket, on_end: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_packet = on_packet
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, socket.socket | None]] = deque()
        self.closed = False
        self._loop.add_reader(sock, self._on_readable)

    def send(
        self, packet: dict[str, Any], raw: bytes = b"", passed: socket.socket | None = None
    ) -> bool:
        """Send a packet; `passed` is closed here as soon as it is on its way. False: nobody will get it."""
        data = json.dumps(packet, separators=(",", ":")).encode() + b"\n" + raw
        if self.closed or len(data) > MAX_PACKET or len(self._queue) >= MAX_QUEUED:
            if passed is not None:
                passed.close()
            return False
        self._queue.append((data, passed))
        if len(self._queue) == 1:
            self._flush()
        return not self.closed

    def close(self) -> None:
        """The other end sees the end of the stream; what still waits here is dropped."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for _, passed in self._queue:
            if passed is not None:
                passed.close()
        self._queue.clear()

    def _flush(self) -> None:
        while self._queue:
            data, passed = self._queue[0]
            rights = []
            if passed is not None:
                fds = array("i", [passed.fileno()])
                rights.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, fds))
            try:
                self._sock.sendmsg([data], rights)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError:
                self._end()
                return
            self._queue.popleft()
            if passed is not None:
                passed.close()
        self._loop.remove_writer(self._sock)

    def _on_readable(self) -> None:
        try:
            data, rights, _, _ = self._sock.recvmsg(MAX_PACKET, socket.CMSG_SPACE(_DESCRIPTORS))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, rights = b"", []
        if not data:
            self._end()
            return
        passed = None
        for _, _, content in rights:
            passed = socket.socket(fileno=array("i", content[:_DESCRIPTORS])[0])
        head, _, raw = data.partition(b"\n")
        self._on_packet(json.loads(head), raw, passed)

    def _end(self) -> None:
        if not self.closed:
            self.close()
            self._on_end()
