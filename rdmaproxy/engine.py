"""The C engine with Python's types: one thread that does all I/O of the proxy.

`csrc/engine.h` says what each call means. Nothing here calls back from the engine's thread: the
owner watches `Engine.event_fd` and takes events with `Engine.next_event`. Calls that command the
engine wait for its loop, at most one turn of it, so that they may be made from an event loop.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from rdmaproxy._engine import ffi, lib
from smbdirect.close_reason import CloseReason

WORDS_SIZE = 256
"""Bytes of a sentence that the engine writes, its end included."""

CAPTURE_ROOM = 8 << 20
"""Bytes of messages that wait to be taken: csrc/capture.h."""

FABRICS = {"iwarp": 0, "verbs": 1}
FABRIC_NAMES = {number: name for name, number in FABRICS.items()}


class EngineError(Exception):
    """A command was refused: an errno and a sentence that says why and what to change."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words or os.strerror(code))
        self.code = code

    @property
    def name(self) -> str:
        """The errno's name, as the control socket reports it: "EADDRINUSE"."""
        return errno.errorcode.get(self.code, str(self.code))


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Zero means the engine's default; see `struct engine_config` and `struct smbd_config`."""

    memory_limit: int = 0
    """Bytes of all workers' pools together; 0: no limit."""
    max_connections: int = 0
    receive_credits: int = 0
    send_credits: int = 0
    max_send_size: int = 0
    max_receive_size: int = 0
    max_fragmented_size: int = 0
    max_read_write_size: int = 0
    read_depth: int = 0
    negotiate_timeout_ms: int = 0
    idle_timeout_ms: int = 0
    keepalive_interval_ms: int = 0
    keepalive_timeout_ms: int = 0
    send_timeout_ms: int = 0
    iwarp_crc: bool = False
    iwarp_max_ulpdu: int = 0
    verbs_send_queue: int = 0
    verbs_receive_queue: int = 0
    verbs_sges: int = 0
    verbs_read_depth: int = 0
    verbs_no_windows: bool = False


@dataclass(frozen=True, slots=True)
class Connection:
    """One SMB Direct connection, a consistent copy. Sizes and amounts in bytes."""

    connection: int
    """Its number, never used twice in one run."""
    listener: int
    """The listener that accepted it, or 0."""
    request: int
    """The number given to `Engine.connect`, or 0."""
    fabric: str
    device: str
    role: str
    """Ours: "server" or "client"."""
    local: tuple[str, int]
    remote: tuple[str, int]
    max_send_size: int
    max_receive_size: int
    max_fragmented_send_size: int
    max_fragmented_receive_size: int
    max_read_write_size: int
    read_depth: int
    invalidation: bool
    """Whether the peer may end an exposure by Send with Invalidate."""
    send_credits: int
    receive_credits: int
    send_credit_target: int
    receive_credit_target: int
    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    rdma_written_bytes: int
    rdma_read_bytes: int
    stalls_send_credit: int
    stalls_send_queue: int
    stalls_read_depth: int
    stalls_unconsumed: int
    queued_bytes: int
    unconsumed_bytes: int
    age: float
    """Seconds since the connection was made."""


@dataclass(frozen=True, slots=True)
class ChannelReady:
    """A connection is negotiated; `fd` is the worker's end of its channel, the taker's to close."""

    connection: Connection
    fd: int


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """`Engine.connect` came to nothing."""

    request: int
    reason: CloseReason
    words: str


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """A connection whose channel was handed over ended."""

    connection: Connection
    reason: CloseReason
    words: str


@dataclass(frozen=True, slots=True)
class ConnectionRefused:
    """An incoming connection ended before it was handed over."""

    connection: Connection
    reason: CloseReason
    words: str


Event = ChannelReady | ConnectFailed | ConnectionClosed | ConnectionRefused


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound address; `port` is the real one where 0 was asked for."""

    listener: int
    fabric: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What the engine holds now; `wakeups` and `loop_cpu_ns` count from its start."""

    connections: int
    half_open: int
    """Connections whose negotiation is under way; part of `connections`."""
    listeners: int
    pools: int
    pool_bytes: int
    memory_limit: int
    regions: int
    registered_bytes: int
    wakeups: int
    loop_cpu_ns: int


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """A line of the trace ring; what `object`, `a` and `b` are, csrc/trace.h says per point."""

    time_ns: int
    point: str
    object: int
    a: int
    b: int


class Engine:
    """Owns the engine and its thread. `start` once, then commands and events, then `stop`."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        """Raises EngineError where the engine's descriptors or memory cannot be had."""
        words = _Words()
        settings = ffi.new("struct engine_config *", asdict(config or EngineConfig()))
        self._engine = lib.engine_create(settings, words.buffer, WORDS_SIZE)
        if self._engine == ffi.NULL:
            raise EngineError(ffi.errno or errno.ENOMEM, words.text())
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._event = ffi.new("struct engine_event *")
        self.result = 0
        """What engine_run returned: 0, or the negative errno that ended the loop."""

    def _run(self) -> None:
        self.result = lib.engine_run(self._engine)

    def start(self) -> None:
        """Starts the thread. It runs without the interpreter's lock."""
        self._thread.start()

    def stop(self) -> None:
        """Ends every connection at once, joins the thread, frees the engine; again: nothing."""
        if self._engine == ffi.NULL:
            return
        lib.engine_stop(self._engine)
        if self._thread.ident is not None:
            self._thread.join()
        engine, self._engine = self._engine, ffi.NULL
        lib.engine_destroy(engine)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # commands

    def listen(self, address: str, port: int, fabric: str = "iwarp") -> Listener:
        """Listens; connections come as ChannelReady with the listener's number."""
        words, number, bound = _Words(), ffi.new("uint64_t *"), ffi.new("uint16_t *")
        _check(
            lib.engine_listen(
                self._handle(),
                _fabric_number(fabric),
                address.encode(),
                port,
                number,
                bound,
                words.buffer,
                WORDS_SIZE,
            ),
            words,
        )
        return Listener(number[0], fabric, address, bound[0])

    def unlisten(self, listener: int) -> None:
        """Ends a listener; the connections that it accepted live on."""
        _check(
            lib.engine_unlisten(self._handle(), listener), None, f"there is no listener {listener}"
        )

    def connect(self, address: str, port: int, request: int, fabric: str = "iwarp") -> None:
        """Begins to connect; ChannelReady or ConnectFailed with the same `request` follows."""
        words = _Words()
        _check(
            lib.engine_connect(
                self._handle(),
                _fabric_number(fabric),
                address.encode(),
                port,
                request,
                words.buffer,
                WORDS_SIZE,
            ),
            words,
        )

    def close(self, connection: int) -> None:
        """Ends a connection in good order; ConnectionClosed follows."""
        _check(
            lib.engine_close(self._handle(), connection),
            None,
            f"there is no connection {connection}",
        )

    def drain(self) -> None:
        """Stops listening, ends every connection in good order; `totals` tells of what is left."""
        _check(lib.engine_drain(self._handle()), None)

    # events

    @property
    def event_fd(self) -> int:
        """Readable while an event waits."""
        return int(lib.engine_event_fd(self._handle()))

    def next_event(self) -> Event | None:
        """Takes the oldest event, or None."""
        event = self._event
        if not lib.engine_next_event(self._handle(), event):
            return None
        connection = _connection(event.connection)
        if event.kind == lib.ENGINE_EVENT_CHANNEL:
            return ChannelReady(connection, event.fd)
        reason, words = CloseReason(event.reason), _text(event.words)
        if event.kind == lib.ENGINE_EVENT_CONNECT_FAILED:
            return ConnectFailed(connection.request, reason, words)
        if event.kind == lib.ENGINE_EVENT_CLOSED:
            return ConnectionClosed(connection, reason, words)
        return ConnectionRefused(connection, reason, words)

    # what is seen from outside

    def connections(self, after: int = 0, limit: int = 64) -> list[Connection]:
        """Connections with a number above `after`, in order, at most `limit`."""
        found = ffi.new("struct engine_connection[]", limit)
        count = lib.engine_connections(self._handle(), after, found, limit)
        return [_connection(found[index]) for index in range(count)]

    def totals(self) -> Totals:
        """What the engine holds now."""
        totals = ffi.new("struct engine_totals *")
        lib.engine_totals(self._handle(), totals)
        return Totals(**{name: getattr(totals, name) for name in Totals.__slots__})

    @staticmethod
    def counters() -> dict[str, int]:
        """All counters of this process by name; they only ever grow."""
        found: dict[str, int] = {}
        while (name := lib.engine_counter_name(len(found))) != ffi.NULL:
            found[_text(name)] = lib.engine_counter(len(found))
        return found

    @staticmethod
    def start_capture() -> None:
        """Messages of all connections are copied from now on. EngineError: it is on already."""
        if error := -lib.engine_capture_start():
            raise EngineError(error, "somebody captures already")

    @staticmethod
    def stop_capture() -> None:
        lib.engine_capture_stop()

    @staticmethod
    def take_capture() -> tuple[bytes, int]:
        """Records of csrc/capture.h since the last call, and how many messages were lost since the start."""
        room, lost = ffi.new("uint8_t[]", CAPTURE_ROOM), ffi.new("uint64_t *")
        length = lib.engine_capture_take(room, CAPTURE_ROOM, lost)
        return bytes(ffi.buffer(room, length)), lost[0]

    @staticmethod
    def set_trace(on: bool) -> None:
        """Switches the trace points of this process on or off."""
        lib.engine_trace(on)

    def trace(self, position: int = 0, limit: int = 1024) -> tuple[list[TraceEvent], int]:
        """Events of the trace ring from `position` on, and the position after them."""
        place = ffi.new("uint64_t *", position)
        found = ffi.new("struct engine_trace_event[]", limit)
        count = lib.engine_trace_read(place, found, limit)
        return [_trace_event(found[index]) for index in range(count)], place[0]

    def _handle(self) -> Any:
        if self._engine == ffi.NULL:
            raise EngineError(errno.ESHUTDOWN, "the engine has been stopped")
        return self._engine


class _Words:
    """Room for a sentence of the engine."""

    def __init__(self) -> None:
        self.buffer = ffi.new(f"char[{WORDS_SIZE}]")

    def text(self) -> str:
        return _text(self.buffer)


def _text(characters: Any) -> str:
    return bytes(ffi.string(characters)).decode("utf-8", "replace")


def _check(result: int, words: _Words | None, otherwise: str = "") -> None:
    if result < 0:
        raise EngineError(-result, words.text() if words else otherwise)


def _fabric_number(name: str) -> int:
    if name not in FABRICS:
        known = ", ".join(FABRICS)
        raise EngineError(errno.EINVAL, f"there is no fabric {name!r}; known are {known}")
    return FABRICS[name]


_PLAIN_FIELDS = tuple(
    name
    for name in Connection.__slots__
    if name not in ("fabric", "device", "role", "local", "remote", "invalidation", "age")
)


def _connection(source: Any) -> Connection:
    return Connection(
        fabric=FABRIC_NAMES.get(source.fabric, "unknown"),
        device=_text(source.device),
        role="client" if source.client_role else "server",
        local=(_text(source.local_address), source.local_port),
        remote=(_text(source.remote_address), source.remote_port),
        invalidation=bool(source.invalidation),
        age=source.age_ns / 1e9,
        **{name: getattr(source, name) for name in _PLAIN_FIELDS},
    )


def _trace_event(source: Any) -> TraceEvent:
    name = lib.engine_trace_name(source.point)
    return TraceEvent(source.time_ns, _text(name), source.object, source.a, source.b)
