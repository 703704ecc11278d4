"""Tables in LMDB: a memory-mapped file that several processes read without locks and write one after another.

Measured with two processes that each enter and remove records as CREATE and CLOSE do, on tmpfs: a pair of transactions
costs LMDB 2.2 us of CPU (12 us if it writes by system call), SQLite (WAL, synchronous off) 28 us; waiting included
5.6 us and 105 us. A process that is killed inside a transaction leaves nothing behind: its lock is robust, its pages
were never linked.

Belongs to one thread. A transaction is a matter of microseconds: nobody awaits inside.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import lmdb

SHARED_SIZE = 64 << 20
"""Bytes of a database in memory: half a million open files. Reserved at the start, since it is written through a
mapping, where a full file system would kill the process."""

DURABLE_SIZE = 4 << 30
"""Bytes that a database on disk can grow to."""

MAX_TABLES = 32
"""Tables of one database; a handful is used."""

MAX_READERS = 2048
"""Processes that read at the same time: every worker, and the listener."""

MAX_KEY = 511
"""Bytes of a key: what LMDB can do."""

_TABLES = b"tables"


class Transaction:
    """`with database.transaction:` what happens inside is seen by others as a whole, or not at all. May be nested."""

    __slots__ = ("_database", "_depth", "inner")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._depth = 0
        self.inner: Any = None
        """LMDB's own transaction; None outside of one."""

    def __enter__(self) -> Transaction:
        if not self._depth:
            self.inner = self._database.environment.begin(write=True)
        self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth:
            return
        inner, self.inner = self.inner, None
        if kind is None:
            inner.commit()
        else:
            inner.abort()


class Database:
    """A file of tables."""

    def __init__(self, path: Path, *, durable: bool = False, reserve: bool = False) -> None:
        """`durable`: a transaction is on disk when it is committed. `reserve`: have the memory for all of it now."""
        self.environment: Any = lmdb.open(
            str(path),
            map_size=DURABLE_SIZE if durable else SHARED_SIZE,
            subdir=False,
            mode=0o600,
            sync=durable,
            metasync=durable,
            writemap=not durable,
            max_dbs=MAX_TABLES,
            max_readers=MAX_READERS,
            max_spare_txns=2,
        )
        if reserve:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, SHARED_SIZE)
        self.transaction = Transaction(self)
        self._registry = self.table(_TABLES.decode(), register=False)

    def records(self, name: str) -> Records:
        """A table of bytes, made if it is not there."""
        return Records(self, self.environment.open_db(name.encode()))

    def table(
        self, name: str, *, version: int = 1, owned: bool = False, register: bool = True
    ) -> Table:
        """A table of JSON values, made if it is not there. Values of another version are taken for absent.

        `owned`: a record is removed when the worker dies whose number stands in it as "worker".
        """
        table = Table(self.records(name), version)
        if register and self._registry.get(name.encode()) != [version, owned]:
            self._registry.put(name.encode(), [version, owned])
        return table

    def forget(self, is_dead: Callable[[int], bool]) -> None:
        """Remove what dead workers owned, and their places among the readers."""
        self.environment.reader_check()
        for name, (version, owned) in list(self._registry.scan()):
            if not owned:
                continue
            table = self.table(name.decode(), version=version, owned=True)
            for key, value in list(table.scan()):
                if isinstance(value, dict) and is_dead(value.get("worker", 0)):
                    table.delete(key)

    def close(self) -> None:
        self.environment.close()


class Records:
    """Keys and values are bytes. Each call is a transaction of its own, unless one is open."""

    __slots__ = ("_database", "_db", "_transaction")

    def __init__(self, database: Database, db: Any) -> None:
        self._database = database
        self._transaction = database.transaction
        self._db = db

    def get(self, key: bytes) -> bytes | None:
        inner = self._transaction.inner
        if inner is not None:
            return cast("bytes | None", inner.get(key, db=self._db))
        with self._database.environment.begin(db=self._db) as reading:
            return cast("bytes | None", reading.get(key))

    def put(self, key: bytes, value: bytes) -> None:
        with self._transaction as transaction:
            transaction.inner.put(key, value, db=self._db)

    def delete(self, key: bytes) -> bool:
        """Whether there was such a record."""
        with self._transaction as transaction:
            found: bool = transaction.inner.delete(key, db=self._db)
            return found

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Records whose keys begin so, in order of keys, as they were when the scan began.

        Inside a transaction the table must not be changed meanwhile: `list(...)` first.
        """
        inner = self._transaction.inner
        with contextlib.ExitStack() as stack:
            if inner is None:
                inner = stack.enter_context(self._database.environment.begin())
            with inner.cursor(db=self._db) as cursor:
                if not cursor.set_range(prefix):
                    return
                for key, value in cursor:
                    if not key.startswith(prefix):
                        return
                    yield key, value


class Table:
    """Values are JSON: dictionaries, lists, numbers, text."""

    __slots__ = ("_head", "_records")

    def __init__(self, records: Records, version: int) -> None:
        self._records = records
        self._head = version.to_bytes(1, "little")

    def get(self, key: bytes) -> Any:
        """None: there is none, or one that an older or newer program wrote."""
        found = self._records.get(key)
        return None if found is None or found[:1] != self._head else json.loads(found[1:])

    def put(self, key: bytes, value: Any) -> None:
        self._records.put(key, self._head + json.dumps(value, separators=(",", ":")).encode())

    def delete(self, key: bytes) -> bool:
        """Whether there was such a record."""
        return self._records.delete(key)

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, Any]]:
        """Records whose keys begin so, in order of keys; see `Records.scan`."""
        for key, value in self._records.scan(prefix):
            if value[:1] == self._head:
                yield key, json.loads(value[1:])
