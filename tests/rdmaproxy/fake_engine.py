"""An engine without a network: it notes what it is told and tells what a test puts into it."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from dataclasses import dataclass, field, replace

from rdmaproxy.engine import (
    ChannelReady,
    Connection,
    EngineError,
    Event,
    Listener,
    Totals,
)

CONNECTION = Connection(
    connection=1,
    listener=0,
    request=0,
    fabric="iwarp",
    device="iwarp",
    role="server",
    local=("192.0.2.1", 5445),
    remote=("192.0.2.2", 40000),
    max_send_size=8192,
    max_receive_size=8192,
    max_fragmented_send_size=1 << 20,
    max_fragmented_receive_size=1 << 20,
    max_read_write_size=8 << 20,
    read_depth=32,
    invalidation=True,
    send_credits=255,
    receive_credits=255,
    send_credit_target=255,
    receive_credit_target=255,
    messages_sent=1,
    messages_received=2,
    bytes_sent=3,
    bytes_received=4,
    rdma_written_bytes=5,
    rdma_read_bytes=6,
    stalls_send_credit=0,
    stalls_send_queue=0,
    stalls_read_depth=0,
    stalls_unconsumed=0,
    queued_bytes=0,
    unconsumed_bytes=0,
    age=1.5,
)


@dataclass
class FakeEngine:
    """Satisfies `rdmaproxy.daemon.EngineLike`."""

    calls: list[tuple[object, ...]] = field(default_factory=list)
    events: deque[Event] = field(default_factory=deque)
    living: list[Connection] = field(default_factory=list)
    peers: list[socket.socket] = field(default_factory=list)
    """The proxy's ends of the channels that were made."""
    refusal: EngineError | None = None
    """What `listen` and `connect` raise."""
    event_fd: int = field(default_factory=lambda: os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    listening: dict[int, Listener] = field(default_factory=dict)

    def start(self) -> None:
        self.calls.append(("start",))

    def stop(self) -> None:
        self.calls.append(("stop",))
        for sock in self.peers:
            sock.close()
        os.close(self.event_fd)

    def listen(self, address: str, port: int, fabric: str = "iwarp") -> Listener:
        if self.refusal:
            raise self.refusal
        listener = Listener(len(self.listening) + 1, fabric, address, port or 50000)
        self.listening[listener.listener] = listener
        return listener

    def unlisten(self, listener: int) -> None:
        if self.listening.pop(listener, None) is None:
            raise EngineError(errno.ENOENT, "no such listener")
        self.calls.append(("unlisten", listener))

    def connect(self, address: str, port: int, request: int, fabric: str = "iwarp") -> None:
        if self.refusal:
            raise self.refusal
        self.calls.append(("connect", address, port, request))

    def close(self, connection: int) -> None:
        if connection not in [one.connection for one in self.living]:
            raise EngineError(errno.ENOENT, f"there is no connection {connection}")
        self.calls.append(("close", connection))

    def drain(self) -> None:
        self.calls.append(("drain",))
        self.living.clear()

    def next_event(self) -> Event | None:
        try:
            os.eventfd_read(self.event_fd)
        except BlockingIOError:
            pass
        return self.events.popleft() if self.events else None

    def connections(self, after: int = 0, limit: int = 64) -> list[Connection]:
        return [one for one in self.living if one.connection > after][:limit]

    def totals(self) -> Totals:
        count = len(self.living)
        return Totals(count, 0, len(self.listening), 0, 0, 1 << 30, count, 0, 0, 0)

    def counters(self) -> dict[str, int]:
        return {"channel_opened": len(self.peers), "smbd_stalls_send_credit": 3}

    def tell(self, event: Event) -> None:
        self.events.append(event)
        os.eventfd_write(self.event_fd, 1)

    def ready(self, listener: int = 0, request: int = 0) -> Connection:
        """Reports a new connection."""
        ours, theirs = socket.socketpair()
        self.peers.append(ours)
        number = len(self.peers)
        made = replace(CONNECTION, connection=number, listener=listener, request=request)
        self.living.append(made)
        self.tell(ChannelReady(made, theirs.detach()))
        return made

    def start_capture(self) -> None:
        pass

    def stop_capture(self) -> None:
        pass

    def take_capture(self) -> tuple[bytes, int]:
        return b"", 0
