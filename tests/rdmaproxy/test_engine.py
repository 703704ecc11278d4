"""The typed wrapper over a real engine that connects to itself over loopback."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rdmaproxy import engine as module
from rdmaproxy.engine import (
    ChannelReady,
    ConnectFailed,
    Connection,
    ConnectionClosed,
    Engine,
    EngineConfig,
    EngineError,
    Event,
    Totals,
)
from smbdirect.close_reason import CloseReason

CSRC = Path(__file__).resolve().parents[2] / "csrc"
PATIENCE = 20
"""Seconds for anything that must happen."""


def next_event(engine: Engine) -> Event:
    assert select.select([engine.event_fd], [], [], PATIENCE)[0], "no event came"
    event = engine.next_event()
    assert event is not None
    return event


def connected(engine: Engine) -> tuple[ChannelReady, ChannelReady]:
    """Client's and server's end of a new connection."""
    listener = engine.listen("127.0.0.1", 0)
    engine.connect("127.0.0.1", listener.port, request=5)
    found = {}
    for _ in range(2):
        event = next_event(engine)
        assert isinstance(event, ChannelReady)
        found[event.connection.role] = event
    return found["client"], found["server"]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(EngineConfig(memory_limit=1 << 20)) as running:
        yield running
        while isinstance(event := running.next_event(), ChannelReady):
            os.close(event.fd)


def without_comments(text: str) -> str:
    """C declarations in one line of single spaces."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    text = re.sub(r"^#.*$", " ", text, flags=re.MULTILINE)
    return " ".join(text.split())


def test_the_cdef_is_the_header() -> None:
    header = without_comments((CSRC / "engine.h").read_text())
    assert without_comments((CSRC / "engine.cdef").read_text()) == header


def test_fields_are_those_of_the_header() -> None:
    def names(struct: str) -> set[str]:
        return {name for name, _ in module.ffi.typeof(f"struct {struct}").fields}

    assert {field.name for field in dataclasses.fields(EngineConfig)} == names("engine_config")
    assert {field.name for field in dataclasses.fields(Totals)} == names("engine_totals")
    own = {field.name for field in dataclasses.fields(Connection)}
    replaced = {"client_role": "role", "age_ns": "age"}
    addresses = {"local_address", "local_port", "remote_address", "remote_port"}
    plain = {replaced.get(name, name) for name in names("engine_connection") - addresses}
    assert own == plain | {"local", "remote"}


def test_close_reasons_are_those_of_the_engine() -> None:
    for reason in CloseReason:
        name = module.ffi.string(module.lib.engine_close_reason_name(reason)).decode()
        assert name == reason.name.lower()
    beyond = module.lib.engine_close_reason_name(max(CloseReason) + 1)
    assert module.ffi.string(beyond) == b"unknown"


def test_a_connection_to_itself(engine: Engine) -> None:
    client, server = connected(engine)
    assert client.connection.request == 5
    assert server.connection.request == 0
    assert client.connection.remote == server.connection.local
    assert client.connection.fabric == server.connection.fabric == "iwarp"
    assert client.connection.connection != server.connection.connection
    with socket.socket(fileno=client.fd) as ours, socket.socket(fileno=server.fd) as theirs:
        theirs.settimeout(PATIENCE)
        ours.sendall(b"\0\0\0\5hello")
        assert theirs.recv(9, socket.MSG_WAITALL) == b"\0\0\0\5hello"
        seen = engine.connections()
        assert [one.connection for one in seen] == sorted(one.connection for one in seen)
        by_role = {one.role: one for one in seen}
        assert by_role["client"].bytes_sent == by_role["server"].bytes_received == 5
        (second,) = engine.connections(after=seen[0].connection)
        (first,) = engine.connections(limit=1)
        assert [first.connection, second.connection] == [one.connection for one in seen]
        assert engine.totals().connections == 2
    reasons = set()
    for _ in range(2):
        event = next_event(engine)
        assert isinstance(event, ConnectionClosed)
        assert event.words
        reasons.add(event.reason)
    assert CloseReason.BY_WORKER in reasons
    assert engine.totals().connections == 0


def test_connect_to_nobody(engine: Engine) -> None:
    listener = engine.listen("127.0.0.1", 0)
    engine.unlisten(listener.listener)
    engine.connect("127.0.0.1", listener.port, request=9)
    event = next_event(engine)
    assert isinstance(event, ConnectFailed)
    assert event.request == 9
    assert event.reason is CloseReason.PEER_LOST
    assert event.words


def test_refusals_have_a_code_and_words(engine: Engine) -> None:
    listener = engine.listen("127.0.0.1", 0)
    with pytest.raises(EngineError, match=r"127\.0\.0\.1") as taken:
        engine.listen("127.0.0.1", listener.port)
    assert (taken.value.code, taken.value.name) == (errno.EADDRINUSE, "EADDRINUSE")
    with pytest.raises(EngineError, match="not a numeric address"):
        engine.connect("nowhere.invalid", 1, request=1)
    with pytest.raises(EngineError, match="known are iwarp"):
        engine.listen("127.0.0.1", 0, fabric="ethernet")
    # An address for examples (RFC 5737): no device is behind it, with or without rdma-core.
    with pytest.raises(EngineError, match=r"cannot listen|rdma-core"):
        engine.listen("192.0.2.1", 0, fabric="verbs")
    with pytest.raises(EngineError, match="no listener 99"):
        engine.unlisten(99)
    with pytest.raises(EngineError, match="no connection 99"):
        engine.close(99)
    with pytest.raises(EngineError, match="credits"):
        Engine(EngineConfig(send_credits=70000))


def test_close_and_drain(engine: Engine) -> None:
    client, server = connected(engine)
    engine.close(server.connection.connection)
    reasons = set()
    for _ in range(2):
        event = next_event(engine)
        assert isinstance(event, ConnectionClosed)
        reasons.add(event.reason)
    assert reasons == {CloseReason.SHUTDOWN, CloseReason.BY_PEER}
    os.close(client.fd)
    os.close(server.fd)
    engine.drain()
    assert engine.totals().listeners == 0
    with pytest.raises(EngineError, match="draining"):
        engine.listen("127.0.0.1", 0)


def test_totals_and_counters(engine: Engine) -> None:
    before = engine.counters()
    client, server = connected(engine)
    totals, after = engine.totals(), engine.counters()
    assert totals.memory_limit == 1 << 20
    assert totals.listeners == 1
    assert totals.wakeups > 0
    assert totals.loop_cpu_ns > 0
    assert after["smbd_established"] == before["smbd_established"] + 2
    assert after["channel_opened"] == before["channel_opened"] + 2
    os.close(client.fd)
    os.close(server.fd)


def test_trace_points_tell_what_happened(engine: Engine) -> None:
    _, position = engine.trace(limit=10000)
    engine.set_trace(True)
    client, server = connected(engine)
    os.write(client.fd, b"\0\0\0\5hello")
    assert os.read(server.fd, 9) == b"\0\0\0\5hello"
    engine.totals()  # the loop has ended its turn
    engine.set_trace(False)
    events, position = engine.trace(position, limit=10000)
    assert [(one.a, one.b) for one in events if one.point == "frame_in"] == [(0, 5)]
    assert [one.time_ns for one in events] == sorted(one.time_ns for one in events)
    assert engine.trace(position) == ([], position)
    os.close(client.fd)
    os.close(server.fd)


def test_stop_is_final() -> None:
    engine = Engine()
    engine.start()
    client, server = connected(engine)
    engine.stop()
    engine.stop()
    assert engine.result == 0
    with pytest.raises(EngineError, match="stopped"):
        engine.totals()
    with socket.socket(fileno=client.fd) as ours:
        assert ours.recv(4)[0] == 0x89
        assert ours.recv(4) == CloseReason.SHUTDOWN.to_bytes(4, "little")
    os.close(server.fd)


def test_an_engine_that_never_ran_can_be_stopped() -> None:
    Engine().stop()


def test_the_engine_runs_without_the_interpreters_lock(engine: Engine) -> None:
    """Two threads that command at the same time are both served."""
    results: list[Totals] = []
    threads = [
        threading.Thread(target=lambda: results.extend(engine.totals() for _ in range(100)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(results) == 200
