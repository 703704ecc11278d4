"""Which opens of one file stand together, and files that go away with their last open ([MS-FSA] 2.1.5.1.2, 2.1.5.4).

A worker knows its own opens one by one. What the other workers must know of them it publishes as one record per file
in the shared store: who has it open, and for each worker the rights that any of its opens has and the sharing that
all of them grant. An open that these exclude is one that some open excludes, and the reverse: nothing is lost.
A worker changes the record only when its own part of it changes.

Record: flags, number of workers, for each its number and modes, path below the share.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smbserver import access
from smbserver.store import KEEPER
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from smbserver.open import Open
    from smbserver.store import Packet, Records, Store, Transaction

SHARE_READ = 1
SHARE_WRITE = 2
SHARE_DELETE = 4

_COUNTED = access.READING | access.WRITING | access.DELETE
_ALL_SHARED = (SHARE_READ | SHARE_WRITE | SHARE_DELETE) << 3
"""Modes of a worker whose opens take no part: those that only look at attributes."""

_DELETE_PENDING = 1
_HEAD = struct.Struct("<BH")
_ENTRY = struct.Struct("<HB")
_ALONE = struct.Struct("<BHHB")
_ONE_WORKER = _HEAD.pack(0, 1)
_NUMBERS = struct.Struct(">QQ")
_LONGEST_STREAM = 400
"""Bytes of a stream's name in a key; what is longer stands there as its hash."""

Key = tuple[int, int, str]
"""Device, inode, and the folded name of an alternate data stream."""


@dataclass(slots=True, eq=False)
class SharedFile:
    """What all opens that this worker has of one file have in common."""

    key: Key
    path: str
    """Below the share; a rename through one open moves it for all."""
    record: bytes
    """Its key in the store."""
    opens: list[Open] = field(default_factory=list)
    modes: int = _ALL_SHARED
    """Our part of the record."""

    @property
    def delete_pending(self) -> bool:
        """It goes when the last open is closed; nobody opens it any more."""
        found = _records.get(self.record)
        return found is not None and bool(found[0] & _DELETE_PENDING)

    @delete_pending.setter
    def delete_pending(self, pending: bool) -> None:
        with _transaction:
            found = _records.get(self.record)
            if found is not None:
                flags = found[0] & ~_DELETE_PENDING | (_DELETE_PENDING if pending else 0)
                _records.put(self.record, bytes((flags,)) + found[1:])


_files: dict[Key, SharedFile] = {}
_store: Store
_records: Records
_transaction: Transaction


def attach(store: Store) -> None:
    """Publish in this store from now on, and be told by others."""
    global _store, _records, _transaction
    _store, _records = store, store.shared.records("share modes")
    _transaction = store.shared.transaction
    store.notifier.on("renamed", _on_renamed)
    store.notifier.on("deleting", _on_deleting)


def find(key: Key) -> SharedFile | None:
    """The file's entry, if this worker has it open."""
    return _files.get(key)


def is_open(key: Key) -> bool:
    """Whether anybody has it open."""
    found = _records.get(pack_key(key))
    return key in _files or (found is not None and bool(_foreign(_parse(found)[1])))


def others(key: Key) -> list[int]:
    """The other workers that have the file open."""
    found = _records.get(pack_key(key))
    return [] if found is None else _told(_parse(found)[1])


def path_of(key: Key) -> str | None:
    """Where a file is that somebody has open, or would if he were there."""
    found = _records.get(pack_key(key))
    return None if found is None else _parse(found)[2].decode("utf-8", "surrogatepass")


def check(key: Key, granted: int, share_access: int) -> None:
    """Refuses an open that its file's other opens exclude, or that excludes them."""
    record = pack_key(key)
    found = _records.get(record)
    if found is not None:
        _check(found, _modes(granted, share_access), _files.get(key))
    if granted & access.DELETE and not key[2]:
        _check_streams(record)


def _check_streams(record: bytes) -> None:
    """Who may delete a file may delete its streams: those that are open must allow it."""
    for stream, found in _records.scan(record):
        if len(stream) > len(record):
            _, workers, _ = _parse(found)
            own = {number: modes for number, modes in workers.items() if number == _store.worker}
            for modes in (own | _foreign(workers)).values():
                if not modes >> 3 & SHARE_DELETE:
                    raise StatusError(NtStatus.SHARING_VIOLATION)


def enter(key: Key, path: str, granted: int, share_access: int) -> SharedFile:
    """The entry that a new open joins; checked once more, since others may have been faster."""
    modes = _modes(granted, share_access)
    file = _files.get(key)
    record = pack_key(key) if file is None else file.record
    with _transaction:
        found = _records.get(record)
        if found is None:
            found = _alone(path, modes if file is None else file.modes)
            _records.put(record, found)
        else:
            _check(found, modes, file)
            if file is None:
                _publish(record, found, modes)
        if file is None:
            file = _files[key] = SharedFile(key, path, record, modes=modes)
        else:
            _change(file, found, _merge(file.modes, modes))
    return file


def leave(file: SharedFile, one: Open) -> Key | None:
    """Takes an open out; what is to be deleted now, because it was the last.

    A file that is to be deleted goes with the last open of its streams.
    """
    file.opens.remove(one)
    if file.opens:
        modes = _ALL_SHARED
        for other in file.opens:
            modes = _merge(modes, _modes(other.granted_access, other.share_access))
        if modes != file.modes:
            with _transaction:
                _change(file, _records.get(file.record) or _alone(file.path, modes), modes)
        return None
    if _files.get(file.key) is file:
        del _files[file.key]
    with _transaction:
        gone = _take_out(file.record)
        if file.key[2]:
            return _left_stream(file) or (file.key if gone else None)
        if gone and _hand_to_streams(file):
            return None
        return file.key if gone else None


def _take_out(record: bytes) -> bool:
    """Our part of a record ends; True: nobody is left, and it was to be deleted."""
    found = _records.get(record)
    if found is None:
        return False
    flags, workers, path = _parse(found)
    living = _foreign(workers)
    if flags & _DELETE_PENDING:
        living.pop(KEEPER, None)  # it shared deletion, and finds nothing when it comes back
    if living:
        _records.put(record, _pack(flags, living, path))
        return False
    _records.delete(record)
    return bool(flags & _DELETE_PENDING)


def _hand_to_streams(file: SharedFile) -> bool:
    """The record of a file that is to go stays while anybody has a stream of it open."""
    holders: set[int] = set()
    for stream, found in _records.scan(file.record):
        if len(stream) > len(file.record):
            _, workers, _ = _parse(found)
            holders |= _foreign(workers).keys() | (workers.keys() & {_store.worker})
    if holders:
        parts = dict.fromkeys(holders, _ALL_SHARED)
        _records.put(file.record, _pack(_DELETE_PENDING, parts, _encode(file.path)))
    return bool(holders)


def _left_stream(stream: SharedFile) -> Key | None:
    """The stream's file, if it only waited for us to close the last of its streams."""
    key = (*stream.key[:2], "")
    record = stream.record[: _NUMBERS.size]
    if key in _files or any(one[:2] == key[:2] for one in _files):
        return None
    return key if _take_out(record) else None


def keep(key: Key, path: str, opens: Iterable[tuple[int, int]]) -> None:
    """Publish what opens exclude whose clients are away, rights and sharing of each; none: nothing any more."""
    record, parts = pack_key(key), [_modes(*one) for one in opens]
    with _transaction:
        found = _records.get(record)
        flags, workers, there = (0, {}, _encode(path)) if found is None else _parse(found)
        workers.pop(KEEPER, None)
        if parts:
            workers[KEEPER] = functools.reduce(_merge, parts)
        if workers:
            _records.put(record, _pack(flags, workers, there))
        else:
            _records.delete(record)


def delete_with_the_last(key: Key) -> bool:
    """The file goes when the last who has it open closes it; False: nobody has."""
    record = pack_key(key)
    with _transaction:
        found = _records.get(record)
        if found is None or not (key in _files or _foreign(_parse(found)[1])):
            return False
        _records.put(record, bytes((found[0] | _DELETE_PENDING,)) + found[1:])
    return True


def is_open_below(device: int, path: str) -> bool:
    """Whether anything below the directory at `path` is open, by whomever."""
    prefix = _encode(f"{path}/")
    for _, found in _records.scan(_NUMBERS.pack(device, 0)[:8]):
        _, workers, there = _parse(found)
        if there.startswith(prefix) and (_store.worker in workers or any(_foreign(workers))):
            return True
    return False


def renamed(file: SharedFile, path: str) -> None:
    """The file has another name now, for all who have it or one of its streams open."""
    for record, found in list(_records.scan(file.record[: _NUMBERS.size])):
        flags, workers, _ = _parse(found)
        _records.put(record, _pack(flags, workers, _encode(path)))
        for worker in _told(workers):
            _store.notifier.send(
                worker, {"op": "renamed", "file": list(file.key[:2]), "path": path}
            )
    _set_path(file.key[:2], path)


def _on_renamed(sender: int, packet: Packet) -> None:
    _set_path(tuple(packet["file"]), packet["path"])


def _set_path(identity: tuple[int, ...], path: str) -> None:
    for key, file in _files.items():
        if key[:2] == identity:
            file.path = path


def announce_deletion(file: SharedFile) -> None:
    """Nobody is told of changes in a folder any more that is about to go."""
    _end_notifiers(file)
    for worker in others(file.key):
        _store.notifier.send(worker, {"op": "deleting", "file": list(file.key[:2])})


def _on_deleting(sender: int, packet: Packet) -> None:
    file = _files.get((*packet["file"], ""))
    if file is not None:
        _end_notifiers(file)


def _end_notifiers(file: SharedFile) -> None:
    for one in file.opens:
        if one.notifier is not None:
            one.notifier.end(NtStatus.DELETE_PENDING)


def forget(store: Store, is_dead: Callable[[int], bool]) -> None:
    """Remove the parts of dead workers. A file that was to be deleted with its last open stays."""
    records = store.shared.records("share modes")
    for record, _ in list(records.scan()):
        with store.shared.transaction:
            found = records.get(record)
            if found is None:
                continue
            flags, workers, path = _parse(found)
            living = {number: modes for number, modes in workers.items() if not is_dead(number)}
            if not living:
                records.delete(record)
            elif len(living) < len(workers):
                records.put(record, _pack(flags, living, path))


# Modes: three bits of rights (reading, writing, deleting), and the same three of sharing above them.


def _modes(granted: int, share_access: int) -> int:
    rights = (
        (SHARE_READ if granted & access.READING else 0)
        | (SHARE_WRITE if granted & access.WRITING else 0)
        | (SHARE_DELETE if granted & access.DELETE else 0)
    )
    return rights | (share_access & 7) << 3 if rights else _ALL_SHARED


def exclude(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two opens, each with its rights and the sharing that it grants, cannot be there together."""
    return _exclude(_modes(*one), _modes(*other))


def _merge(one: int, other: int) -> int:
    """What both together exclude: the rights of either, the sharing of both."""
    return (one | other) & 7 | one & other & _ALL_SHARED


def _exclude(one: int, other: int) -> bool:
    return bool(one & 7 & ~(other >> 3) or other & 7 & ~(one >> 3))


def _check(found: bytes, modes: int, own: SharedFile | None) -> None:
    """Refuses what the opens of a record exclude."""
    if own is not None and own.opens and _exclude(own.modes, modes):
        raise StatusError(
            NtStatus.DELETE_PENDING if found[0] & _DELETE_PENDING else NtStatus.SHARING_VIOLATION
        )
    if own is not None and found[:3] == _ONE_WORKER:
        return
    flags, workers, _ = _parse(found)
    living = _foreign(workers)
    if own is None and not living and _store.worker not in workers:
        return  # whoever had it open is dead
    if flags & _DELETE_PENDING:
        raise StatusError(NtStatus.DELETE_PENDING)
    if any(_exclude(other, modes) for other in living.values()):
        raise StatusError(NtStatus.SHARING_VIOLATION)


def _foreign(workers: dict[int, int]) -> dict[int, int]:
    """The modes of the others that live."""
    own, is_dead = _store.worker, _store.is_dead
    return {
        number: modes for number, modes in workers.items() if number != own and not is_dead(number)
    }


def _told(workers: dict[int, int]) -> list[int]:
    """Those others who can be told something."""
    return [number for number in _foreign(workers) if number != KEEPER]


# Records


def pack_key(key: Key) -> bytes:
    """A file's key in tables of the store; its streams have the same 16 bytes in front."""
    device, inode, stream = key
    if not stream:
        return _NUMBERS.pack(device, inode)
    name = _encode(stream)
    if len(name) > _LONGEST_STREAM:
        name = hashlib.blake2b(name, digest_size=32).digest()
    return _NUMBERS.pack(device, inode) + name


def _alone(path: str, modes: int) -> bytes:
    """The record of a file that only this worker has open."""
    return _ALONE.pack(0, 1, _store.worker, modes) + _encode(path)


def _change(file: SharedFile, found: bytes, modes: int) -> None:
    """Our part of a record is another one now."""
    if modes != file.modes:
        _publish(file.record, found, modes)
        file.modes = modes


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _publish(record: bytes, found: bytes, modes: int) -> None:
    """Put our part into a record."""
    flags, workers, path = _parse(found)
    living = _foreign(workers)
    if not living and _store.worker not in workers:
        flags = 0  # whoever wanted it deleted is dead
    _records.put(record, _pack(flags, {**living, _store.worker: modes}, path))


def _parse(found: bytes) -> tuple[int, dict[int, int], bytes]:
    flags, count = _HEAD.unpack_from(found)
    end = _HEAD.size + count * _ENTRY.size
    return flags, dict(_ENTRY.iter_unpack(found[_HEAD.size : end])), found[end:]


def _pack(flags: int, workers: dict[int, int], path: bytes) -> bytes:
    entries: Iterable[bytes] = (_ENTRY.pack(number, modes) for number, modes in workers.items())
    return _HEAD.pack(flags, len(workers)) + b"".join(entries) + path
