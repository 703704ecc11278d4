"""Persistent opens on disk: written before a CREATE is answered, removed with the CLOSE ([MS-SMB2] 3.3.1.10).

Whatever ends, the worker, the server or the host, what stands here is true: it says who had the open. When he lives no
more, the open is parked, and waits for its client as if the connection alone had been lost.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from smbserver.acting import acting_for
from smbserver.durable.record import VERSION, Record
from smbserver.store import KEEPER

if TYPE_CHECKING:
    from smbserver.durable.parked import Parked
    from smbserver.store import Store, Table

_ID = struct.Struct(">Q")
_TABLE = "persistent opens"


class PersistentOpens:
    """The table on disk. Each call returns when the disk has it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made: Table | None = None

    @property
    def _table(self) -> Table:
        if self._made is None:
            with acting_for(None):  # the files are the server's, whoever's open comes first
                self._made = self._store.kept.table(_TABLE, version=VERSION)
        return self._made

    def note(self, record: Record) -> None:
        """What would be needed to take the open up."""
        with acting_for(None):
            self._store.make_will()
        self._table.put(_ID.pack(record.persistent_id), record.to_json())

    def forget(self, persistent_id: int) -> None:
        """It is closed."""
        self._table.delete(_ID.pack(persistent_id))

    def park_orphans(self, parked: Parked, now: float, is_dead: Callable[[int], bool]) -> int:
        """Wait for the clients of those who had such opens and are dead; how many opens these were."""
        if not self._store.keeps_anything:
            return 0
        count = 0
        for _, found in list(self._table.scan()):
            record = Record.from_json(found)
            known = parked.find(record.persistent_id) is not None
            if known or (record.worker != KEEPER and not is_dead(record.worker)):
                continue
            # With the host, the tables in memory have gone too: also who was waited for is entered again.
            deadline = record.deadline or now + record.timeout
            waiting = dataclasses.replace(record, worker=KEEPER, deadline=deadline)
            parked.enter(waiting)
            self.note(waiting)
            count += 1
        return count
