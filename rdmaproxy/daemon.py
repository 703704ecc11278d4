"""The control plane: one asyncio loop around the engine's thread. It listens, connects and hands channels over.

The way of a channel:
  1. a client asks to `listen` or to `connect`; the engine is told, and who asked is noted;
  2. the engine reports a negotiated connection with the worker's end of its channel;
  3. the end goes to the client that owns the listener, or that asked to connect, and is closed here;
  4. the engine reports the connection's end: a line in the log.

Nothing here sees a message or a transfer, and nothing runs while nothing happens. No process is forked.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from rdmaproxy import devices, log
from rdmaproxy.capture import Capture
from rdmaproxy.config import Config
from rdmaproxy.control import (
    PACKET_MAX,
    Allowed,
    ControlClient,
    ControlServer,
    RequestFailed,
)
from rdmaproxy.engine import (
    ChannelReady,
    ConnectFailed,
    Connection,
    ConnectionClosed,
    ConnectionRefused,
    Engine,
    EngineConfig,
    EngineError,
    Event,
    Listener,
    Totals,
)
from rdmaproxy.host_watch import HostWatch
from smbdirect.sd_daemon import listening_sockets, notify

EVENT_BUDGET = 64
"""Events of the engine taken in one wake-up, then control clients have a turn."""
CONNECTIONS_MAX = 64
"""Connections in one status."""
STATUS_SIZE = PACKET_MAX - 8192
"""Bytes of connections in one status; totals, counters and addresses take the rest."""
LISTENERS_MAX = 64
"""Listeners of one control client: a server has one for each address."""
CONNECTS_MAX = 256
"""Connects of one control client that are under way."""
DRAIN_LOOK = 0.05
"""Seconds between looks at what is left, while draining only."""

FACTS = (
    "connection",
    "fabric",
    "device",
    "role",
    "local",
    "remote",
    "max_send_size",
    "max_receive_size",
    "max_fragmented_send_size",
    "max_fragmented_receive_size",
    "max_read_write_size",
    "read_depth",
    "invalidation",
)
"""What a worker is told of a connection: CHANNEL of docs/channel.md."""


class EngineLike(Protocol):
    """What the daemon needs of an engine; tests put another one in its place."""

    @property
    def event_fd(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def listen(self, address: str, port: int, fabric: str = "iwarp") -> Listener: ...
    def unlisten(self, listener: int) -> None: ...
    def connect(self, address: str, port: int, request: int, fabric: str = "iwarp") -> None: ...
    def close(self, connection: int) -> None: ...
    def drain(self) -> None: ...
    def next_event(self) -> Event | None: ...
    def connections(self, after: int = 0, limit: int = 64) -> list[Connection]: ...
    def totals(self) -> Totals: ...
    def counters(self) -> dict[str, int]: ...
    def start_capture(self) -> None: ...
    def stop_capture(self) -> None: ...
    def take_capture(self) -> tuple[bytes, int]: ...


def engine_config(config: Config) -> EngineConfig:
    """The engine's part of the configuration, in its units."""
    return EngineConfig(
        memory_limit=config.memory_limit,
        max_connections=config.max_connections,
        receive_credits=config.receive_credit_max,
        send_credits=config.send_credit_target,
        max_send_size=config.max_send_size,
        max_receive_size=config.max_receive_size,
        max_fragmented_size=config.max_fragmented_size,
        max_read_write_size=config.max_read_write_size,
        read_depth=config.read_depth,
        negotiate_timeout_ms=_milliseconds(config.negotiate_timeout),
        idle_timeout_ms=_milliseconds(config.idle_timeout),
        keepalive_interval_ms=_milliseconds(config.keepalive_interval),
        keepalive_timeout_ms=_milliseconds(config.keepalive_timeout),
        send_timeout_ms=_milliseconds(config.send_timeout),
        iwarp_crc=config.iwarp_crc,
        iwarp_max_ulpdu=config.iwarp_max_ulpdu,
        verbs_send_queue=config.verbs_send_queue,
        verbs_receive_queue=config.verbs_receive_queue,
        verbs_sges=config.verbs_sges,
        verbs_read_depth=config.verbs_read_depth,
        verbs_no_windows=not config.verbs_windows,
    )


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def raise_descriptor_limit() -> int:
    """Each connection takes two descriptors: the soft limit goes up to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


class Daemon:
    """Owns the engine and the control socket. `run` until a signal, or `drain` is asked for."""

    def __init__(self, config: Config, path: str, engine: EngineLike | None = None) -> None:
        self.config = config
        self.path = path
        self.engine: EngineLike = Engine(engine_config(config)) if engine is None else engine
        self._listeners: dict[int, tuple[Listener, ControlClient]] = {}
        self._reached: dict[int, list[str]] = {}
        """At which addresses the owner of each listener believes it to be reached."""
        self._connecting: dict[int, tuple[ControlClient, object]] = {}
        """Requests to connect that the engine has not answered: who asked, under which id."""
        self._next_request = 1
        self._captured: tuple[Capture, ControlClient] | None = None
        self._draining: asyncio.Event | None = None
        self._deadline = config.drain_deadline
        self._ops: dict[str, Callable[[ControlClient, object, dict[str, Any]], None]] = {
            "hello": self._hello,
            "listen": self._listen,
            "unlisten": self._unlisten,
            "connect": self._connect,
            "status": self._status,
            "close": self._close,
            "capture": self._capture,
            "drain": self._drain,
        }

    # -- life

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serves until it was told to end, and everything has ended or the deadline passed."""
        loop = asyncio.get_running_loop()
        self._draining = asyncio.Event()
        descriptors = raise_descriptor_limit()
        allowed = Allowed.of(self.config.allow_users, self.config.allow_groups)
        self._server = ControlServer(
            self.path, allowed, self.config.control_clients, self, passed=_passed_socket()
        )
        watch = HostWatch(self._host_changed)
        try:
            self.engine.start()
            loop.add_reader(self.engine.event_fd, self._on_events)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal, number)
            log.event("started", pid=os.getpid(), control=self.path, descriptors=descriptors)
            notify("READY=1", f"STATUS=listening for workers at {self.path}")
            started()
            await self._draining.wait()
            await self._end_connections()
        finally:
            watch.close()
            if self._captured is not None:
                self._captured[0].close()
            loop.remove_reader(self.engine.event_fd)
            self.engine.stop()
            self._server.close()
            log.event("stopped", pid=os.getpid())

    def _on_signal(self, number: int) -> None:
        if self._draining is not None and self._draining.is_set():
            self._deadline = 0.0  # asked twice: at once
        self.drain(signal.Signals(number).name, self._deadline)

    def drain(self, why: str, deadline: float) -> None:
        """Ends listeners now, connections in good order, all of it after `deadline` seconds."""
        assert self._draining is not None
        self._deadline = deadline
        if self._draining.is_set():
            return
        log.event("draining", why=why, deadline_seconds=deadline)
        notify("STOPPING=1", f"STATUS=draining, at most {deadline:g} seconds")
        self._server.broadcast("drain")
        self._draining.set()
        self.engine.drain()

    async def _end_connections(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadline
        while left := self.engine.totals().connections:
            if loop.time() >= end:
                log.refusal("drain_deadline", connections_left=left)
                break
            await asyncio.sleep(DRAIN_LOOK)
        self._on_events()

    # -- events of the engine

    def _on_events(self) -> None:
        for _ in range(EVENT_BUDGET):
            event = self.engine.next_event()
            match event:
                case ChannelReady():
                    self._hand_over(event)
                case ConnectFailed():
                    self._connect_failed(event)
                case ConnectionClosed():
                    self._connection_closed(event)
                case ConnectionRefused():
                    self._connection_refused(event)
                case None:
                    return

    def _hand_over(self, ready: ChannelReady) -> None:
        """The worker's end goes to who listens or asked; with nobody left it is closed, which ends it."""
        connection = ready.connection
        log.event(
            "connection_accepted" if connection.listener else "connection_made",
            connection=connection.connection,
            fabric=connection.fabric,
            local=connection.local,
            remote=connection.remote,
            max_send_size=connection.max_send_size,
            max_receive_size=connection.max_receive_size,
            read_depth=connection.read_depth,
        )
        channel = _facts(connection)
        if connection.listener in self._listeners:
            listener, client = self._listeners[connection.listener]
            client.event("channel", ready.fd, listener=listener.listener, channel=channel)
        elif connection.request in self._connecting:
            client, number = self._connecting.pop(connection.request)
            client.answer(number, {"channel": channel}, ready.fd)
        else:
            os.close(ready.fd)
        self._tell_status()

    def _connect_failed(self, failed: ConnectFailed) -> None:
        log.event("connect_failed", reason=failed.reason.name.lower(), words=failed.words)
        client, number = self._connecting.pop(failed.request, (None, None))
        if client is not None:
            client.refuse(number, _connect_code(failed), failed.words)

    def _connection_closed(self, closed: ConnectionClosed) -> None:
        connection = closed.connection
        log.event(
            "connection_closed",
            connection=connection.connection,
            remote=connection.remote,
            reason=closed.reason.name.lower(),
            words=closed.words,
            seconds=f"{connection.age:.3f}",
            bytes_sent=connection.bytes_sent,
            bytes_received=connection.bytes_received,
            rdma_written_bytes=connection.rdma_written_bytes,
            rdma_read_bytes=connection.rdma_read_bytes,
        )
        self._tell_status()

    def _connection_refused(self, refused: ConnectionRefused) -> None:
        log.refusal(
            "connection_refused",
            connection=refused.connection.connection,
            local=refused.connection.local,
            remote=refused.connection.remote,
            reason=refused.reason.name.lower(),
            words=refused.words,
        )

    def _tell_status(self) -> None:
        if os.environ.get("NOTIFY_SOCKET"):
            totals = self.engine.totals()
            notify(f"STATUS={totals.connections} connections, {totals.listeners} listeners")

    # -- requests of control clients

    def request(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        op = packet.get("op")
        serve = self._ops.get(op) if isinstance(op, str) else None
        if serve is None:
            raise RequestFailed(
                "EOPNOTSUPP", f"there is no op {op!r}; known: {', '.join(self._ops)}"
            )
        try:
            serve(client, number, packet)
        except EngineError as error:
            log.refusal(f"{op}_refused", pid=client.peer.pid, code=error.name, words=str(error))
            raise RequestFailed(error.name, str(error)) from error

    def gone(self, client: ControlClient) -> None:
        """A client's listeners end with it; channels that it was given do not."""
        for listener, owner in list(self._listeners.values()):
            if owner is client:
                self._end_listener(listener, "its owner is gone")
        for request, (asker, _) in list(self._connecting.items()):
            if asker is client:
                del self._connecting[request]
        if self._captured is not None and self._captured[1] is client:
            self._captured[0].close()

    def _hello(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        found = devices.fabrics(self.config.fabric)
        fabrics = list(dict.fromkeys(fabric.name for fabric in found))
        client.answer(number, {"version": 1, "pid": os.getpid(), "fabrics": fabrics})

    def _listen(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        self._refuse_when_draining()
        address, port, fabric = self._endpoint(packet)
        if sum(owner is client for _, owner in self._listeners.values()) >= LISTENERS_MAX:
            raise RequestFailed("EAGAIN", f"{LISTENERS_MAX} listeners are the limit of one client")
        listener = self.engine.listen(address, port, fabric)
        self._listeners[listener.listener] = listener, client
        log.event(
            "listening",
            listener=listener.listener,
            fabric=fabric,
            address=(listener.address, listener.port),
            pid=client.peer.pid,
        )
        reached = devices.reached(fabric, listener.address)
        self._reached[listener.listener] = reached
        client.answer(
            number,
            {
                "listener": listener.listener,
                "address": listener.address,
                "port": listener.port,
                "addresses": reached,
            },
        )

    def _unlisten(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        wanted = _whole(packet, "listener")
        listener, owner = self._listeners.get(wanted, (None, None))
        if listener is None or owner is not client:
            raise RequestFailed("ENOENT", f"you have no listener {wanted}")
        self._end_listener(listener, "it was asked to")
        client.answer(number, {})

    def _end_listener(self, listener: Listener, why: str) -> None:
        del self._listeners[listener.listener]
        self._reached.pop(listener.listener, None)
        try:
            self.engine.unlisten(listener.listener)
        except EngineError:
            pass  # a drain ended it before
        log.event("listening_ended", listener=listener.listener, words=why)

    def _host_changed(self) -> None:
        """An adapter or an address came or went: who listens everywhere is told where that is now."""
        for number, (listener, client) in self._listeners.items():
            reached = devices.reached(listener.fabric, listener.address)
            if reached != self._reached[number]:
                self._reached[number] = reached
                log.event("listening_at", listener=number, addresses=" ".join(reached) or "nowhere")
                client.event("addresses", listener=number, addresses=reached)

    def _connect(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        self._refuse_when_draining()
        address, port, fabric = self._endpoint(packet)
        if sum(asker is client for asker, _ in self._connecting.values()) >= CONNECTS_MAX:
            raise RequestFailed("EAGAIN", f"{CONNECTS_MAX} connects at a time are the limit")
        request = self._next_request
        self._next_request += 1
        self.engine.connect(address, port, request, fabric)
        self._connecting[request] = client, number

    def _status(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        after = _whole(packet, "after", 0)
        found = self.engine.connections(after, CONNECTIONS_MAX)
        shown: list[dict[str, Any]] = []
        room = STATUS_SIZE
        for connection in found:
            entry = asdict(connection)
            room -= len(json.dumps(entry))
            if room < 0:
                break
            shown.append(entry)
        totals = asdict(self.engine.totals())
        totals["control_clients"] = len(self._server.clients)
        totals["control_refusals"] = self._server.refusals
        client.answer(
            number,
            {
                "totals": totals,
                "counters": self.engine.counters(),
                "listeners": [asdict(listener) for listener, _ in self._listeners.values()][:32],
                "connections": shown,
                "more": len(shown) < len(found) or len(found) == CONNECTIONS_MAX,
            },
        )

    def _close(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        self.engine.close(_whole(packet, "connection"))
        client.answer(number, {})

    def _capture(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        """Everything that everybody says can be read there, so that being allowed to connect is not enough."""
        if client.peer.uid not in (0, os.geteuid()):
            raise RequestFailed("EPERM", "only root and the proxy's own user may capture")
        capture = Capture(self.engine, self._capture_ended)
        self._captured = capture, client
        log.event("capture", pid=client.peer.pid, uid=client.peer.uid)
        client.answer(number, {}, capture.theirs.detach())

    def _capture_ended(self) -> None:
        self._captured = None

    def _drain(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        deadline = packet.get("deadline", self.config.drain_deadline)
        if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not deadline >= 0:
            raise RequestFailed("EINVAL", f"deadline {deadline!r}: a number of seconds is wanted")
        client.answer(number, {})
        self.drain(f"pid {client.peer.pid} asked for it", float(deadline))

    def _endpoint(self, packet: dict[str, Any]) -> tuple[str, int, str]:
        """Address, port and fabric of a request; a fabric that is not named is the configured one."""
        wanted = self.config.fabric
        address, fabric = packet.get("address"), packet.get("fabric") or wanted
        if not isinstance(address, str) or not isinstance(fabric, str) or "\0" in address:
            raise RequestFailed("EINVAL", "address and fabric are wanted as strings")
        if wanted not in ("auto", fabric):
            words = f"fabric {fabric} is switched off: the configuration says fabric = {wanted}"
            raise RequestFailed("EPERM", words)
        port = _whole(packet, "port")
        if port > 65535:
            raise RequestFailed("EINVAL", f"port {port}: 0 to 65535 are possible")
        return address, port, devices.fabric_for(address, port) if fabric == "auto" else fabric

    def _refuse_when_draining(self) -> None:
        if self._draining is not None and self._draining.is_set():
            raise RequestFailed("ESHUTDOWN", "the proxy is ending")


def _facts(connection: Connection) -> dict[str, Any]:
    return {name: getattr(connection, name) for name in FACTS}


def _connect_code(failed: ConnectFailed) -> str:
    return {
        "TIMEOUT": "ETIMEDOUT",
        "PEER_LOST": "ECONNREFUSED",
        "NEGOTIATION": "EPROTO",
        "PROTOCOL_ERROR": "EPROTO",
        "LIMIT": "ENOBUFS",
        "SHUTDOWN": "ESHUTDOWN",
    }.get(failed.reason.name, "ECONNABORTED")


def _whole(packet: dict[str, Any], name: str, otherwise: int | None = None) -> int:
    value = packet.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise RequestFailed("EINVAL", f"{name} {value!r}: a number from 0 is wanted")
    return value


def _passed_socket() -> socket.socket | None:
    """The control socket, where the service manager listens for us."""
    passed = listening_sockets()
    for sock in passed[1:]:
        sock.close()
    return passed[0] if passed else None
