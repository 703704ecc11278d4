"""Where all workers tell what their clients cache, and of how many files anybody caches reads.

A record stands under file, worker and number. Beside the table lies one number for each bucket of files (`hints`):
how many of their records let a client read from what it keeps. WRITE looks at it first, in Python and in C: while it
is nought nobody has to be told of what is written.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from smbserver.lease import READ
from smbserver.share_modes import Key
from smbserver.store import HINTS, Store

_FILE = struct.Struct(">QQ8s")
_OWNER = struct.Struct(">HQ")

Owner = tuple[int, int]
"""A worker, and its number for what one of its clients holds."""


def prefix_of(file: Key) -> bytes:
    """How the keys of a file's records begin."""
    device, inode, stream = file
    name = hashlib.blake2b(stream.encode(), digest_size=8).digest() if stream else bytes(8)
    return _FILE.pack(device, inode, name)


class CachingTable:
    """Records of what is cached; each is a dictionary with `worker` and `state`."""

    def __init__(self, store: Store) -> None:
        self._table = store.shared.table("caching", owned=True)
        self._transaction = store.shared.transaction
        self._readers = store.hints("readers")

    def put(self, file: Key, owner: Owner, record: dict[str, Any]) -> None:
        prefix = prefix_of(file)
        key = prefix + _OWNER.pack(*owner)
        with self._transaction:
            self._readers[_bucket(prefix)] += _reads(record) - _reads(self._table.get(key))
            self._table.put(key, record)

    def delete(self, file: Key, owner: Owner) -> None:
        prefix = prefix_of(file)
        key = prefix + _OWNER.pack(*owner)
        with self._transaction:
            self._readers[_bucket(prefix)] -= _reads(self._table.get(key))
            self._table.delete(key)

    def of(self, file: Key) -> Iterator[tuple[Owner, dict[str, Any]]]:
        """Who holds something of a file, as it was when this was called."""
        prefix = prefix_of(file)
        for key, record in list(self._table.scan(prefix)):
            worker, number = _OWNER.unpack_from(key, len(prefix))
            yield (worker, number), record

    def readers(self, file: Key) -> memoryview:
        """The one number of the file's bucket, in memory that all workers map."""
        slot = _bucket(prefix_of(file))
        return self._readers[slot : slot + 1]

    def count_anew(self) -> None:
        """Records of dead workers were removed past this class."""
        with self._transaction:
            counts = [0] * HINTS
            for key, record in list(self._table.scan()):
                counts[_bucket(key[: _FILE.size])] += _reads(record)
            for slot, count in enumerate(counts):
                if self._readers[slot] != count:
                    self._readers[slot] = count


def _reads(record: dict[str, Any] | None) -> int:
    return int(record is not None and bool(record["state"] & READ))


def _bucket(prefix: bytes) -> int:
    return zlib.crc32(prefix) % HINTS
