"""Durable opens whose client is away: who they are, and what they keep from others.

They stand in tables that all workers share, each under its persistent id, and are found by file and by CreateGuid. What
they exclude others from stands where it stands for open files too, with the keeper as the owner.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from smbserver import locks, oplock, share_modes
from smbserver.caching_table import CachingTable
from smbserver.durable.record import VERSION, Record
from smbserver.durable.request import NO_GUID
from smbserver.store import KEEPER

if TYPE_CHECKING:
    from smbserver.share_modes import Key
    from smbserver.store import Store

_ID = struct.Struct(">Q")


class Parked:
    """All of this server's. `share_modes` and `locks` must be attached to the same store."""

    def __init__(self, store: Store) -> None:
        self.transaction = store.shared.transaction
        self._opens = store.shared.table("parked", version=VERSION)
        self._by_file = store.shared.records("parked by file")
        self._by_guid = store.shared.records("parked by create guid")
        self._caching = CachingTable(store)

    def find(self, persistent_id: int) -> Record | None:
        """None: there is none, or its client is not away."""
        found = self._opens.get(_ID.pack(persistent_id))
        return None if found is None else Record.from_json(found)

    def find_created(self, client_guid: bytes, create_guid: bytes) -> Record | None:
        """What a CREATE opened that this client would replay."""
        found = self._by_guid.get(client_guid + create_guid)
        return None if found is None else self.find(*_ID.unpack(found))

    def of_file(self, file: Key) -> list[Record]:
        """Those of one file."""
        prefix = share_modes.pack_key(file)
        ids = [key[len(prefix) :] for key, _ in self._by_file.scan(prefix)]
        found = [self.find(*_ID.unpack(one)) for one in ids if len(one) == _ID.size]
        return [record for record in found if record is not None and record.file == file]

    def all(self) -> Iterator[Record]:
        """Everyone who is waited for."""
        return (Record.from_json(found) for _, found in list(self._opens.scan()))

    def enter(self, record: Record) -> None:
        """From now on it is waited for."""
        packed = _ID.pack(record.persistent_id)
        with self.transaction:
            self._opens.put(packed, record.to_json())
            self._by_file.put(share_modes.pack_key(record.file) + packed, b"")
            if record.create_guid != NO_GUID:
                self._by_guid.put(record.client_guid + record.create_guid, packed)
            self._publish_modes(record)
            locks.keep(record.file, record.persistent_id, record.locks)
            oplock.keep(
                self._caching,
                record.file,
                record.persistent_id,
                record.cached,
                record.client_guid,
            )

    def hand_over(self, record: Record) -> None:
        """Its worker has nothing to do with it any more."""
        free = dataclasses.replace(record, worker=KEEPER)
        self._opens.put(_ID.pack(record.persistent_id), free.to_json())

    def remove(self, record: Record) -> bool:
        """Its client has come, or is waited for no longer. False: another worker was faster."""
        packed = _ID.pack(record.persistent_id)
        with self.transaction:
            if not self._opens.delete(packed):
                return False
            self._by_file.delete(share_modes.pack_key(record.file) + packed)
            self._by_guid.delete(record.client_guid + record.create_guid)
            self._publish_modes(record)
            locks.give_back(record.file, record.persistent_id)
            oplock.give_back(self._caching, record.file, record.persistent_id)
        return True

    def _publish_modes(self, record: Record) -> None:
        there = [(one.granted_access, one.share_access) for one in self.of_file(record.file)]
        share_modes.keep(record.file, record.path, there)
