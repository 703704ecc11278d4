"""Byte-range locks of all workers ([MS-SMB2] 3.3.5.14, [MS-FSA] 2.1.5.8).

A file that has locks has one record in the shared store: a list of ranges, each with its worker and open; who waits
for a range stands there too. Whoever gives ranges back tells the workers that wait, which try again.

READ and WRITE look at one number first: how many records the file's bucket of `hints` has. It lies in memory that all
workers map, changes inside the transaction that makes or removes a record, and is nought for most files always.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from smbserver.share_modes import pack_key
from smbserver.store import HINTS, KEEPER

if TYPE_CHECKING:
    from collections.abc import Callable

    from smbserver.open import Open
    from smbserver.share_modes import Key
    from smbserver.store import Packet, Records, Store, Transaction

MAX_LOCKS = 4096
"""Ranges locked in one file by one open; databases keep a few dozen."""

_SHARED, _EXCLUSIVE, _WAITING = range(3)
_RANGE = struct.Struct("<HQQQB")


class Range(NamedTuple):
    """What is to be locked."""

    offset: int
    length: int
    exclusive: bool


class ByteRangeLock(NamedTuple):
    """A range that an open holds, or waits for."""

    worker: int
    opened: int
    """The open's volatile id; its worker knows it."""
    offset: int
    length: int
    kind: int

    def overlaps(self, offset: int, length: int) -> bool:
        """Whether a byte is in both ranges. An empty range lies between two bytes: it can be inside another."""
        return self.offset < offset + length and offset < self.offset + self.length

    def excludes(self, wanted: Range, owner: tuple[int, int]) -> bool:
        """A shared one may be put upon an exclusive one of the same open; nothing else upon that."""
        if self.kind == _WAITING or not (wanted.exclusive or self.kind == _EXCLUSIVE):
            return False
        if not wanted.exclusive and self[:2] == owner:
            return False
        return self.overlaps(wanted.offset, wanted.length)


_store: Store
_records: Records
_transaction: Transaction
_hints: memoryview
_waiting: dict[bytes, list[asyncio.Future[None]]] = {}
_holders: set[Open] = set()


def attach(store: Store) -> None:
    """Keep locks in this store from now on, and be woken by others."""
    global _store, _records, _transaction, _hints
    _store, _records = store, store.shared.records("locks")
    _transaction, _hints = store.shared.transaction, store.hints("locks")
    store.notifier.on("unlocked", _on_unlocked)
    store.on_worker_gone.append(_on_worker_gone)


def may_access(opened: Open, offset: int, length: int, writing: bool) -> bool:
    """Whether a READ or WRITE may touch the range ([MS-FSA] 2.1.4.10)."""
    file = opened.file
    if not _hints[bucket(file.record)] or not length:
        return True
    for lock in _held(file.record):
        own = lock.opened == opened.volatile_id and lock.worker == _store.worker
        excludes = not own if lock.kind == _EXCLUSIVE else writing and lock.kind == _SHARED
        if excludes and lock.overlaps(offset, length) and not _store.is_dead(lock.worker):
            return False
    return True


def hint_of(opened: Open) -> memoryview:
    """Its one number in memory that all workers map: nought while no range of the file is locked."""
    slot = bucket(opened.file.record)
    return _hints[slot : slot + 1]


def is_locked(key: Key) -> bool:
    """Whether any range of the file is locked."""
    record = pack_key(key)
    return bool(_hints[bucket(record)]) and any(
        lock.kind != _WAITING and not _store.is_dead(lock.worker) for lock in _held(record)
    )


def acquire(opened: Open, wanted: Sequence[Range], *, wait: bool = False) -> bool:
    """Take all the ranges or none. With `wait`, who gives one back will tell; `stop_waiting` ends that."""
    record, mine = opened.file.record, (_store.worker, opened.volatile_id)
    with _transaction:
        locks = _living(_held(record))
        count = sum(lock.worker == mine[0] and lock.opened == mine[1] for lock in locks)
        for one in wanted:
            if count >= MAX_LOCKS or any(lock.excludes(one, mine) for lock in locks):
                break
            kind = _EXCLUSIVE if one.exclusive else _SHARED
            locks.append(ByteRangeLock(*mine, one.offset, one.length, kind))
            count += 1
        else:
            _write(record, locks)
            _hold(opened)
            return True
        if wait:
            locks.append(ByteRangeLock(*mine, wanted[0].offset, wanted[0].length, _WAITING))
            _write(record, locks)
    return False


def release(opened: Open, offset: int, length: int) -> bool:
    """Give exactly this range back; False if it is not held."""
    return bool(_take_out(opened, lambda lock: (lock.offset, lock.length) == (offset, length), 1))


def release_all(opened: Open) -> None:
    """Give everything back that the open holds."""
    _holders.discard(opened)
    _take_out(opened, lambda lock: True)


def held_by(opened: Open) -> tuple[Range, ...]:
    """The ranges that the open holds."""
    if opened not in _holders:
        return ()
    mine = _store.worker, opened.volatile_id
    return tuple(
        Range(lock.offset, lock.length, lock.kind == _EXCLUSIVE)
        for lock in _held(opened.file.record)
        if lock[:2] == mine and lock.kind != _WAITING
    )


def resume(opened: Open, wanted: Sequence[Range]) -> None:
    """Hold what the open held before its client was away. Nobody else could take it meanwhile."""
    if wanted:
        _add(opened.file.record, _store.worker, opened.volatile_id, wanted)
        _hold(opened)


def keep(key: Key, number: int, wanted: Sequence[Range]) -> None:
    """Hold ranges for an open whose client is away."""
    if wanted:
        _add(pack_key(key), KEEPER, number, wanted)


def give_back(key: Key, number: int) -> None:
    """Nothing is kept for that open any more."""
    if _hints[bucket(pack_key(key))]:
        _remove(pack_key(key), (KEEPER, number), lambda lock: True)


def stop_waiting(opened: Open, wanted: Range) -> None:
    """The request has its range now, or waits no longer."""
    waiting = ByteRangeLock(
        _store.worker, opened.volatile_id, wanted.offset, wanted.length, _WAITING
    )
    with _transaction:
        locks = _held(opened.file.record)
        if waiting in locks:
            locks.remove(waiting)
            _write(opened.file.record, locks)


async def until_changed(opened: Open) -> None:
    """Return when some lock of the file was given back, or the open ends."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    record = opened.file.record

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    waiting = _waiting.setdefault(record, [])
    waiting.append(future)
    opened.on_close.append(wake)
    try:
        await future
    finally:
        with contextlib.suppress(ValueError):
            opened.on_close.remove(wake)
            waiting.remove(future)
        if not waiting and _waiting.get(record) is waiting:
            del _waiting[record]


def forget(store: Store, is_dead: Callable[[int], bool]) -> None:
    """Remove the ranges of dead workers, and count anew what stands in `hints`."""
    records, hints = store.shared.records("locks"), store.hints("locks")
    with store.shared.transaction:
        counts: dict[int, int] = {}
        for record, found in list(records.scan()):
            locks = [lock for lock in _parse(found) if not is_dead(lock.worker)]
            if not locks:
                records.delete(record)
                continue
            records.put(record, _pack(locks))
            counts[bucket(record)] = counts.get(bucket(record), 0) + 1
        for slot in range(len(hints)):
            if hints[slot] != counts.get(slot, 0):
                hints[slot] = counts.get(slot, 0)


def _hold(opened: Open) -> None:
    if opened not in _holders:
        _holders.add(opened)
        opened.on_close.append(lambda: release_all(opened))


def _add(record: bytes, worker: int, number: int, wanted: Sequence[Range]) -> None:
    with _transaction:
        locks = _held(record)
        for one in wanted:
            kind = _EXCLUSIVE if one.exclusive else _SHARED
            locks.append(ByteRangeLock(worker, number, one.offset, one.length, kind))
        _write(record, locks)


def _take_out(opened: Open, chosen: Callable[[ByteRangeLock], bool], limit: int = MAX_LOCKS) -> int:
    """Remove ranges that the open holds and wake who waits; how many they were."""
    return _remove(opened.file.record, (_store.worker, opened.volatile_id), chosen, limit)


def _remove(
    record: bytes,
    owner: tuple[int, int],
    chosen: Callable[[ByteRangeLock], bool],
    limit: int = MAX_LOCKS,
) -> int:
    kept, taken = [], 0
    with _transaction:
        for lock in _held(record):
            own = lock[:2] == owner
            if taken < limit and own and lock.kind != _WAITING and chosen(lock):
                taken += 1
            else:
                kept.append(lock)
        if taken:
            _write(record, kept)
    if taken:
        _wake(record, {lock.worker for lock in kept if lock.kind == _WAITING})
    return taken


def _wake(record: bytes, workers: Iterable[int]) -> None:
    for worker in workers:
        if worker == _store.worker:
            _wake_own(record)
        else:
            _store.notifier.send(worker, {"op": "unlocked", "file": record.hex()})


def _wake_own(record: bytes) -> None:
    for future in _waiting.pop(record, ()):
        if not future.done():
            future.set_result(None)


def _on_unlocked(sender: int, packet: Packet) -> None:
    _wake_own(bytes.fromhex(packet["file"]))


def _on_worker_gone(worker: int) -> None:
    for record in list(_waiting):
        _wake_own(record)


# Records


@functools.lru_cache(maxsize=4096)
def bucket(record: bytes) -> int:
    """A file's place in `hints`."""
    return zlib.crc32(record) % HINTS


def _held(record: bytes) -> list[ByteRangeLock]:
    return _parse(_records.get(record) or b"")


def _living(locks: list[ByteRangeLock]) -> list[ByteRangeLock]:
    dead = {worker for worker in {lock.worker for lock in locks} if _store.is_dead(worker)}
    return [lock for lock in locks if lock.worker not in dead] if dead else locks


def _write(record: bytes, locks: list[ByteRangeLock]) -> None:
    """Inside a transaction, so that nobody else counts at the same time."""
    slot, before = bucket(record), _records.get(record) is not None
    if locks:
        _hints[slot] += not before
        _records.put(record, _pack(locks))
    elif before:
        _records.delete(record)
        _hints[slot] -= 1


def _parse(found: bytes) -> list[ByteRangeLock]:
    return [ByteRangeLock._make(fields) for fields in _RANGE.iter_unpack(found)]


def _pack(locks: Iterable[ByteRangeLock]) -> bytes:
    return b"".join(_RANGE.pack(*lock) for lock in locks)
