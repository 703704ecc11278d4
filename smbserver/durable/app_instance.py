"""A program that has moved to another host takes its files with it ([MS-SMB2] 3.3.5.9.13).

Its opens carry the same AppInstanceId from wherever it runs. When one comes from another client, those that it had from
before end, without a break and without waiting for anybody. Which opens carry one stands in a table that all workers
share; each worker ends its own.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smbserver.open import Open
    from smbserver.service import Service
    from smbserver.share_modes import Key
    from smbserver.store import Packet

_OPEN = struct.Struct(">16sHQ")
"""AppInstanceId, worker, persistent id."""


class AppInstances:
    """Opens of this worker's clients that carry an AppInstanceId."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store
        self._table = self._store.shared.table("app instances", owned=True)
        self._opens: dict[int, Open] = {}
        self._store.notifier.on("end-instance", self._on_end)

    def enter(self, opened: Open, app_instance_id: bytes) -> None:
        """Let it be found until it is closed."""
        identity = opened.persistent_id
        key = _OPEN.pack(app_instance_id, self._store.worker, identity)
        self._opens[identity] = opened
        self._table.put(
            key,
            {
                "worker": self._store.worker,
                "guid": opened.tree.session.client_guid.hex(),
                "file": list(opened.file.key),
            },
        )

        def leave() -> None:
            del self._opens[identity]
            self._table.delete(key)

        opened.on_close.append(leave)

    def end_others(self, app_instance_id: bytes, client_guid: bytes, file: Key) -> bool:
        """End what other clients opened for this program; True: another worker was asked, and will tell."""
        asked = False
        for key, record in list(self._table.scan(app_instance_id)):
            _, worker, identity = _OPEN.unpack(key)
            if record["guid"] == client_guid.hex() or tuple(record["file"]) != file:
                continue
            if worker == self._store.worker:
                self._end(identity)
            elif not self._store.is_dead(worker):
                self._store.notifier.send(worker, {"op": "end-instance", "open": identity})
                asked = True
        return asked

    def _on_end(self, worker: int, packet: Packet) -> None:
        opened = self._opens.get(packet["open"])
        if opened is not None:
            self._end(packet["open"])
        self._service.caching.tell(worker, None if opened is None else opened.file.key)

    def _end(self, identity: int) -> None:
        opened = self._opens[identity]
        opened.tree.session.opens.pop(opened.volatile_id, None)
        self._service.counters["opens_ended_by_their_program"] += 1
        opened.close()
