from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smbserver.store import SESSION_BITS, Store, worker_of
from tests.smbserver.in_process import in_loop


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """A store as two workers see it. LMDB allows a file once per process, so they have one database."""
    one, other = (Store(number, tmp_path / "store", tmp_path / "state") for number in (1, 2))
    yield one, other
    one.close()
    other.close()


def test_session_ids_are_unique_across_workers() -> None:
    one, other = Store(1), Store(2)
    ids = [store.session_id() for store in (one, other) for _ in range(1000)]
    assert len(set(ids)) == len(ids)
    assert all(0 < number < 1 << 32 for number in ids)
    assert [worker_of(number) for number in ids] == [1] * 1000 + [2] * 1000


def test_numbers_begin_again_and_are_never_zero() -> None:
    store = Store(4096)
    store._next = (1 << SESSION_BITS) - 2
    assert [store.session_id() for _ in range(3)] == [(1 << SESSION_BITS) - 1, 1, 2]


def test_tables(stores: tuple[Store, Store]) -> None:
    table = stores[0].shared.table("things")
    table.put(b"a/1", {"n": 1})
    table.put(b"a/2", [2])
    table.put(b"b/1", "three")
    assert table.get(b"a/1") == {"n": 1}
    assert table.get(b"a") is None
    assert list(table.scan(b"a/")) == [(b"a/1", {"n": 1}), (b"a/2", [2])]
    assert len(list(table.scan())) == 3
    assert table.delete(b"a/1")
    assert not table.delete(b"a/1")
    assert list(stores[0].shared.table("things", version=2).scan()) == []


def test_a_transaction_that_fails_leaves_nothing(stores: tuple[Store, Store]) -> None:
    database = stores[0].shared
    table = database.table("things")
    table.put(b"before", 1)
    with pytest.raises(ZeroDivisionError), database.transaction:
        table.put(b"before", 2)
        with database.transaction:
            table.put(b"inside", 3)
        assert table.get(b"inside") == 3
        raise ZeroDivisionError
    assert list(table.scan()) == [(b"before", 1)]


def test_records_of_a_dead_worker(stores: tuple[Store, Store]) -> None:
    owned = stores[0].shared.table("owned", owned=True)
    other = stores[0].shared.table("other")
    for table in (owned, other):
        table.put(b"mine", {"worker": 1})
        table.put(b"its", {"worker": 2})
    stores[0].shared.forget(lambda worker: worker == 2)
    assert [key for key, _ in owned.scan()] == [b"mine"]
    assert [key for key, _ in other.scan()] == [b"its", b"mine"]


def test_what_is_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    for expected in (None, {"a": 1}):
        store = Store(1, tmp_path / "store", tmp_path / "state")
        table = store.kept.table("handles")
        assert table.get(b"k") == expected
        table.put(b"k", {"a": 1})
        store.close()


OTHER = """
import os, pathlib, sys
from smbserver.store import Store
store = Store(2, pathlib.Path(sys.argv[1]))
assert store.presence.announce(2)
table = store.shared.table("things", owned=True)
table.put(b"committed", {"worker": 2})
store.shared.transaction.__enter__()
table.put(b"not committed", {"worker": 2})
print("inside", flush=True)
sys.stdin.read()
"""


def test_a_worker_killed_inside_a_transaction(tmp_path: Path) -> None:
    store = Store(1, tmp_path / "store")
    assert store.presence.announce(1)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, store.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"inside\n"
        assert store.presence.is_alive(2)
        assert not store.presence.announce(2)
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert not store.presence.is_alive(2)
    table = store.shared.table("things", owned=True)
    table.put(b"mine", {"worker": 1})
    assert [key for key, _ in table.scan()] == [b"committed", b"mine"]
    store.shared.forget(store.is_dead)
    assert [key for key, _ in table.scan()] == [b"mine"]
    store.close()


@in_loop
async def test_messages(stores: tuple[Store, Store]) -> None:
    one, other = (store.notifier for store in stores)
    seen: list[tuple[int, int]] = []

    async def later(sender: int, packet: dict[str, Any]) -> dict[str, Any]:
        return {"twice": packet["n"] * 2}

    other.on("note", lambda sender, packet: seen.append((sender, packet["n"])))
    other.on("now", lambda sender, packet: {"from": sender})
    other.on("later", later)
    one.on("later", later)
    one.start()
    other.start()
    for number in range(100):
        one.send(2, {"op": "note", "n": number})
    assert await one.ask(2, {"op": "now"}) == {"from": 1}
    assert seen == [(1, number) for number in range(100)]
    assert await one.ask(2, {"op": "later", "n": 4}) == {"twice": 8}
    assert await one.ask(1, {"op": "later", "n": 5}) == {"twice": 10}
    assert await one.ask(2, {"op": "unknown"}) is None
    assert await one.ask(3, {"op": "now"}) is None


@in_loop
async def test_who_asks_a_worker_that_ends_waits_no_longer(stores: tuple[Store, Store]) -> None:
    one, other = (store.notifier for store in stores)
    one.start()
    other.start()

    async def end(sender: int, packet: dict[str, Any]) -> None:
        other.close()

    other.on("end", end)
    assert await one.ask(2, {"op": "end"}, deadline=60) is None
    one.send(2, {"op": "end"})
    assert await one.ask(2, {"op": "end"}) is None


@in_loop
async def test_a_connection_is_passed_on(stores: tuple[Store, Store]) -> None:
    one, other = (store.notifier for store in stores)
    one.start()
    other.start()
    got: list[tuple[dict[str, Any], bytes, socket.socket]] = []
    other.on_connection = lambda packet, raw, passed: got.append((packet, raw, passed))
    other.on("sync", lambda sender, packet: {})
    near, far = socket.socketpair()
    assert one.pass_connection(2, {"facts": {}}, b"rest", far)
    assert await one.ask(2, {"op": "sync"}) == {}
    ((packet, raw, passed),) = got
    assert (packet["op"], packet["from"], raw) == ("connection", 1, b"rest")
    with near, passed:
        near.send(b"hello")
        assert os.read(passed.fileno(), 10) == b"hello"
