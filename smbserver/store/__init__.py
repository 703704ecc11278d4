"""What the workers of one server share: the only place that knows where such state lives.

    store.shared    tables that live as long as the server does: share modes, locks, leases, open handles
    store.kept      tables that survive a restart, synced to disk with every transaction: persistent handles
    store.notifier  small messages to other workers: breaks, wake-ups, "close that session"
    store.hints     numbers in memory that all map, for what must cost nothing
    store.presence  who of the workers lives

How to keep a table there:

    table = store.shared.table("leases", version=1, owned=True)
    with store.shared.transaction:             # all or nothing; other workers wait meanwhile: microseconds, no await
        lease = table.get(key)                 # any JSON value, or None
        table.put(key, {**lease, "state": 3, "worker": store.worker})
    for key, lease in table.scan(prefix): ...  # in order of keys

A dead worker's records vanish at once: the listener removes from tables that are `owned` every record whose
"worker" does not live, and then tells all workers (`store.on_worker_gone`). What a worker finds of one that is
not `store.presence.is_alive` before that it treats as gone.

What must outlive its worker, as persistent handles must, counts until the listener has taken it over
(`store.make_will`).

A session's number tells its worker: `worker_of(session_id)`.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from smbserver.store.database import Database, Records, Table, Transaction
from smbserver.store.notifier import Handler, Notifier, Packet
from smbserver.store.presence import Presence

__all__ = [
    "KEEPER",
    "SESSION_BITS",
    "WORKER_BITS",
    "Database",
    "Handler",
    "Notifier",
    "Packet",
    "Presence",
    "Records",
    "Store",
    "Table",
    "Transaction",
    "worker_of",
]

SESSION_BITS = 20
"""Sessions are numbered 1 to 1,048,575 within a worker, then from the start again."""

WORKER_BITS = 12
"""Workers are numbered 0 to 4095, then from the start again. Session ids stay below 2**32, as clients know them."""

KEEPER = (1 << WORKER_BITS) - 1
"""Stands for the owner of what nobody owns at present: durable opens whose client is away. It never dies."""

HINTS = 16384
"""Numbers in `hints`: files that share one by chance are few."""

_MEMORY = Path("/dev/shm")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def worker_of(session_id: int) -> int:
    """The number of the worker that gave a session its id."""
    return session_id >> SESSION_BITS & ((1 << WORKER_BITS) - 1)


class Store:
    """One worker's access to what is shared. The listener has one too."""

    def __init__(
        self, worker: int = 0, folder: Path | None = None, state: Path | None = None
    ) -> None:
        """`folder` is private to the server, best on tmpfs; `state` on disk. Without them the store is its own."""
        self.worker = worker % (1 << WORKER_BITS)
        self._alone = folder is None
        self.folder = folder if folder is not None else self._temporary()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state = state if state is not None else self.folder
        self._hints: dict[str, memoryview] = {}
        self.presence = Presence(self.folder / "presence")
        self.notifier = Notifier(self.worker, self.folder)
        self.on_worker_gone: list[Callable[[int], None]] = []
        """Called in every worker when another has ended, after its records were removed."""
        self._next = 0
        self._testators: Records
        self._has_will = False

    @cached_property
    def shared(self) -> Database:
        """Gone with a reboot: the file's name says of which one it is."""
        boot = _BOOT.read_text()[:8] if _BOOT.exists() else ""
        database = Database(self.folder / f"shared-{boot}", reserve=not self._alone)
        self._testators = database.records("testators")
        return database

    @cached_property
    def kept(self) -> Database:
        """Survives restart and power loss."""
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Database(self._state / "kept", durable=True)

    @property
    def keeps_anything(self) -> bool:
        """Whether there is a database on disk; most servers never need one."""
        return "kept" in self.__dict__ or (self._state / "kept").exists()

    def hints(self, name: str) -> memoryview:
        """Numbers in memory that all workers map: how many records there are, told without a look at a table."""
        if name not in self._hints:
            with (self.folder / f"hints-{name}").open("a+b") as file:
                os.posix_fallocate(file.fileno(), 0, HINTS * 4)
                self._hints[name] = memoryview(mmap.mmap(file.fileno(), HINTS * 4)).cast("I")
        return self._hints[name]

    def session_id(self) -> int:
        """A number that no other session of this server has now, unless this worker made a million since."""
        self._next = self._next % ((1 << SESSION_BITS) - 1) + 1
        return self.worker << SESSION_BITS | self._next

    def has_ended(self, worker: int) -> bool:
        """Whether a worker is gone."""
        return worker not in (self.worker, KEEPER) and not self.presence.is_alive(worker)

    def is_dead(self, worker: int) -> bool:
        """Whether what a worker left behind counts no more. What must outlive it counts until it is taken care of."""
        return self.has_ended(worker) and self._testators.get(_pack(worker)) is None

    def make_will(self) -> None:
        """This worker has what must outlive it."""
        if not self._has_will:
            self._testators.put(_pack(self.worker), b"")
            self._has_will = True

    def settle_wills(self) -> None:
        """What had to outlive workers that have ended is taken care of."""
        for key, _ in list(self._testators.scan()):
            if self.has_ended(int.from_bytes(key, "big")):
                self._testators.delete(key)

    def gone(self, worker: int) -> None:
        """The listener says that a worker has ended and its records are removed."""
        for callback in list(self.on_worker_gone):
            callback(worker)

    def close(self) -> None:
        """Further use is an error."""
        self.notifier.close()
        self.presence.close()
        for name in ("shared", "kept"):
            database = self.__dict__.pop(name, None)
            if database is not None:
                database.close()

    def _temporary(self) -> Path:
        folder = Path(tempfile.mkdtemp("", "smbserver-", _MEMORY if _MEMORY.is_dir() else None))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


def _pack(worker: int) -> bytes:
    return worker.to_bytes(2, "big")
