"""Oplocks and leases of a worker, and how they meet those of other workers.

1. CREATE asks `admit` what may be granted. What others hold and this open disturbs is broken; if that takes an
   acknowledgment, `admit` raises `MustWait`, and CREATE tries again after `watch`;
2. `hold` enters what was granted; it ends with the open, or the last open of the lease;
3. whoever writes calls `modified`: what others have read is no longer right;
4. the client acknowledges (`commands/oplock_break.py`), or the time is up: `lower`.

What is held stands in a table that all workers share; each worker changes only its own records, and asks the owner of
another to break it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smbserver import lease
from smbserver.break_delivery import BreakDelivery
from smbserver.caching_table import CachingTable, prefix_of
from smbserver.durable.record import Cached
from smbserver.lease import HANDLE, READ, WRITE, Holding, Wish
from smbserver.store import KEEPER
from smbserver.wire.file_id import FileId
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.oplock_break import LeaseBreakFlags, LeaseBreakNotification, OplockBreak
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.connection import Connection
    from smbserver.open import Open
    from smbserver.service import Service
    from smbserver.session import Session
    from smbserver.share_modes import Key

BREAK_DEADLINE = 35.0
"""Seconds that a client has to acknowledge a break; what Windows gives."""

_UNASKED = 0xFFFFFFFFFFFFFFFF
"""MessageId of what no request asked for."""


class MustWait(Exception):
    """Somebody has to give caching back first; the request is tried again when something of the file has changed."""

    def __init__(self, file: Key) -> None:
        self.file = file


class ParkedMeanwhile(Exception):
    """A client was lost since those were looked at who wait for theirs: its open must make way as they did."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An open that wants to join the others of its file."""

    file: Key
    rights: int
    wish: Wish
    violates: bool = False
    """Its sharing mode does not fit; closing handles that are only cached may help."""
    overwrites: bool = False
    again: bool = False
    """It has waited once."""
    locked: bool = False
    """Byte ranges of the file are locked."""
    parked: frozenset[int] = frozenset()
    """Persistent ids of the opens that wait for their clients and need not make way."""


class Caching:
    """What the clients of one worker hold."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store
        self._table = CachingTable(self._store)
        self._holdings: dict[int, Holding] = {}
        self._leases: dict[tuple[bytes, bytes], Holding] = {}
        self._of_open: dict[Open, Holding] = {}
        self._waiting: dict[bytes, list[asyncio.Future[None]]] = {}
        self._numbers = itertools.count(1)
        self._store.notifier.on("break", self._on_break)
        self._store.notifier.on("broken", self._on_broken)
        self._store.on_worker_gone.append(lambda worker: self._wake_all())

    @property
    def in_use(self) -> bool:
        """Whether any share grants anything; if none does, opens are not entered."""
        return any(share.oplocks for share in self._service.config.shares.values())

    def of(self, opened: Open) -> Holding | None:
        """What an open holds; None: nothing."""
        return self._of_open.get(opened)

    def lease(self, client_guid: bytes, key: bytes) -> Holding | None:
        """A lease by its name."""
        return self._leases.get((client_guid, key))

    # 1. what may be granted

    def check_key(self, wish: Wish, file: Key | None) -> None:
        """A lease key names one file ([MS-SMB2] 3.3.5.9.8)."""
        if wish.lease is not None:
            known = self._leases.get((wish.client_guid, wish.lease.lease_key))
            if known is not None and known.file != file:
                raise StatusError(NtStatus.INVALID_PARAMETER)

    def admit(self, attempt: Attempt) -> int:
        """The state to grant; breaks what stands in the way, or raises ParkedMeanwhile."""
        found = self._table.of(attempt.file) if self.in_use else ()
        others = [one for one in found if not _same_lease(one[1], attempt)]
        if not lease.touches_nothing(attempt.rights):
            waits = False
            for owner, record in others:
                waits |= self._contend(attempt, owner, record)
            if waits:
                raise MustWait(attempt.file)
        if attempt.violates:
            raise StatusError(NtStatus.SHARING_VIOLATION)
        return _grantable(attempt, [record for _, record in others])

    def _contend(self, attempt: Attempt, owner: tuple[int, int], record: dict[str, Any]) -> bool:
        """Break one holding as far as it must be; True: wait for it."""
        state, is_lease = record["state"], bool(record["key"])
        if owner[0] == KEEPER:
            if owner[1] not in attempt.parked:
                raise ParkedMeanwhile
            return False
        if is_lease and lease.touches_no_lease(attempt.rights):
            return False
        delaying = HANDLE if attempt.violates else WRITE
        to = state & ~delaying
        if attempt.overwrites:
            to &= ~(HANDLE | READ)
        if to == state:
            return bool(record["breaking"]) and is_lease
        if attempt.overwrites:
            to = 0
        self._break(attempt.file, owner, to)
        return bool(state & delaying) or (bool(record["breaking"]) and attempt.again)

    def _break(self, file: Key, owner: tuple[int, int], to: int) -> None:
        worker, number = owner
        if worker == KEEPER:
            self._service.durable_opens.lower(number, to)
        elif worker == self._store.worker:
            self._begin(self._holdings.get(number), to, worker)
        else:
            self._store.notifier.send(worker, {"op": "break", "number": number, "to": to})

    # 2. what is held

    def hold(self, opened: Open, attempt: Attempt, granted: int) -> Holding | None:
        """Enter a new open, and what it may cache."""
        if not self.in_use:
            return None
        wish = attempt.wish
        if wish.lease is not None:
            holding = self._leases.get((wish.client_guid, wish.lease.lease_key))
            if holding is None:
                holding = self._new_lease(attempt, granted)
            else:
                holding.upgrade(wish.state, granted)
        elif granted or not lease.touches_nothing(attempt.rights):
            holding = Holding(next(self._numbers), attempt.file, granted, is_oplock=bool(granted))
        else:
            return None
        self._enter(opened, holding)
        return holding

    def resume(self, opened: Open, cached: Cached, client_guid: bytes) -> Holding | None:
        """Enter an open whose client was away, with what it might cache before."""
        if not self.in_use:
            return None
        guid = client_guid if cached.lease_key else b""
        holding = self._leases.get((guid, cached.lease_key))
        if holding is None:
            holding = Holding(
                next(self._numbers),
                opened.file.key,
                cached.state,
                guid,
                cached.lease_key,
                cached.version,
                cached.epoch,
                cached.parent_key,
                cached.is_oplock,
            )
            if cached.lease_key:
                self._leases[guid, cached.lease_key] = holding
        self._enter(opened, holding)
        return holding

    def _enter(self, opened: Open, holding: Holding) -> None:
        holding.opens.append(opened)
        self._holdings[holding.number] = holding
        self._of_open[opened] = holding
        opened.on_close.append(lambda: self._leave(opened))
        self._publish(holding)

    def _new_lease(self, attempt: Attempt, granted: int) -> Holding:
        wish = attempt.wish
        assert wish.lease is not None
        key = wish.client_guid, wish.lease.lease_key
        parent = wish.lease.parent_lease_key if wish.lease.lease_flags & 4 else None
        holding = self._leases[key] = Holding(
            next(self._numbers),
            attempt.file,
            granted,
            *key,
            wish.lease.version,
            wish.lease.epoch + 1 & 0xFFFF,
            parent,
        )
        return holding

    def _leave(self, opened: Open) -> None:
        """An open is closed."""
        holding = self._of_open.pop(opened)
        holding.opens.remove(opened)
        if holding.opens:
            return
        holding.state, holding.breaking = 0, False
        self._settle(holding)
        del self._holdings[holding.number]
        if holding.is_lease:
            del self._leases[holding.client_guid, holding.lease_key]
        self._table.delete(holding.file, (self._store.worker, holding.number))

    def _publish(self, holding: Holding) -> None:
        self._table.put(
            holding.file,
            (self._store.worker, holding.number),
            {
                "worker": self._store.worker,
                "state": holding.state,
                "breaking": holding.breaking,
                "oplock": holding.is_oplock,
                "guid": holding.client_guid.hex(),
                "key": holding.lease_key.hex(),
            },
        )
        for opened in holding.opens:
            self._service.durable_opens.changed(opened)
            if opened.quick is not None:
                opened.quick.be_alone(bool(holding.state & WRITE))

    # 3. what others did

    def modified(self, opened: Open) -> None:
        """The data has changed: nobody else may go on reading what he keeps of it."""
        mine = self._of_open.get(opened)
        if mine is None or mine.state & WRITE or not self.readers(opened)[0]:
            return
        for owner, record in self._table.of(opened.file.key):
            own = owner == (self._store.worker, mine.number)
            if record["state"] & READ and not (own and mine.is_lease):
                self._break(opened.file.key, owner, 0)

    def folder_changed(self, folder: Key, knows: tuple[bytes, bytes] | None) -> None:
        """Whoever keeps the listing of a folder reads it again, but for the holder of the lease that is named."""
        if not self.in_use:
            return
        for owner, record in self._table.of(folder):
            if record["state"] & READ and _name(record) != knows:
                self._break(folder, owner, 0)

    def deleting(self, file: Key, by: tuple[bytes, bytes] | None) -> None:
        """A file is to go: whoever only keeps a handle of it closes it, but the lease that it is deleted under."""
        if not self.in_use:
            return
        for owner, record in self._table.of(file):
            if record["state"] & HANDLE and _name(record) != by:
                self._break(file, owner, record["state"] & ~HANDLE)

    def is_alone(self, opened: Open) -> bool:
        """Whether nobody else can have cached what the open writes."""
        mine = self._of_open.get(opened)
        return mine is None or bool(mine.state & WRITE)

    def readers(self, opened: Open) -> memoryview:
        """One number in memory that all workers map; while it is nought nobody caches what the open writes."""
        return self._table.readers(opened.file.key)

    def closing_handles(self, opened: Open) -> bool:
        """Ask all others to close handles that they only keep, before a rename; True: wait for them."""
        mine = self._of_open.get(opened)
        if mine is None or not mine.is_lease:
            return False
        waits = False
        for owner, record in self._table.of(opened.file.key):
            if record["state"] & HANDLE and owner != (self._store.worker, mine.number):
                self._break(opened.file.key, owner, record["state"] & ~HANDLE)
                waits |= owner[0] != KEEPER
        return waits

    # 4. breaking

    def lower(self, holding: Holding, state: int) -> None:
        """The client has gone down to a state; tell it if that is not enough yet."""
        more = holding.acknowledge(state)
        self._settle(holding)
        if more is not None:
            if holding.breaking:
                self._arm(holding)
            # The answer to the acknowledgment goes first.
            asyncio.get_running_loop().call_soon(self._announce, holding, *more)

    def _begin(self, holding: Holding | None, to: int, asker: int) -> None:
        if holding is None:
            self.tell(asker, None)
            return
        holding.watchers.add(asker)
        change = holding.start_break(to)
        if change is None:
            if not holding.breaking:
                self._settle(holding)
            return
        self._publish(holding)
        self._announce(holding, *change)
        if holding.breaking:
            self._arm(holding)
        else:
            self._settle(holding)

    def _arm(self, holding: Holding) -> None:
        if holding.deadline is not None:
            holding.deadline.cancel()
        loop = asyncio.get_running_loop()
        holding.deadline = loop.call_later(BREAK_DEADLINE, self._expire, holding)

    def _expire(self, holding: Holding) -> None:
        """[MS-SMB2] 3.3.2.1: who does not answer has lost it."""
        if not holding.breaking:
            return
        self._service.counters["breaks_not_acknowledged"] += 1
        holding.required = 0
        self.lower(holding, 0)

    def _settle(self, holding: Holding) -> None:
        """Something of it has changed: who waits for its file tries again."""
        if holding.deadline is not None and not holding.breaking:
            holding.deadline.cancel()
            holding.deadline = None
        if holding.opens:
            self._publish(holding)
        watchers, holding.watchers = holding.watchers, set()
        for worker in watchers:
            self.tell(worker, holding.file)

    def _announce(self, holding: Holding, before: int, to: int) -> None:
        """Tell the client, on a connection that lives ([MS-SMB2] 3.3.4.6, 3.3.4.7)."""
        if not holding.opens:
            return
        session = holding.opens[0].tree.session
        if holding.is_lease:
            flags = LeaseBreakFlags.ACK_REQUIRED if before != READ else 0
            epoch = holding.epoch if holding.version > 1 else 0
            body = LeaseBreakNotification(holding.lease_key, before, to, flags, epoch).pack()
            session_id = 0
        else:
            opened = holding.opens[0]
            level = 1 if to & READ else 0
            body = OplockBreak(FileId(opened.persistent_id, opened.volatile_id), level).pack()
            session_id = session.id
        BreakDelivery(
            lambda: self._connections(holding),
            lambda connection: _send(connection, session_id, body),
            lambda: self._not_delivered(holding),
        ).start()

    def _not_delivered(self, holding: Holding) -> None:
        self._service.counters["breaks_not_delivered"] += 1
        if holding.breaking:  # nobody is left who could acknowledge
            asyncio.get_running_loop().call_soon(self._expire, holding)

    def _connections(self, holding: Holding) -> Iterator[Connection]:
        """The channels of the open's session; for a lease all connections of the client, oldest first."""
        if not holding.opens:
            return
        sessions: list[Session] = [holding.opens[0].tree.session]
        if holding.is_lease:
            sessions = [
                session
                for _, session in sorted(self._service.sessions.items())
                if session.client_guid == holding.client_guid
            ]
        for session in sessions:
            yield from (one for one in session.bindings if not one.closed)

    # waiting

    def watch(self, file: Key) -> Awaitable[None]:
        """Done when somebody has given up something of the file from now on."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(prefix_of(file), []).append(future)
        return self._until(prefix_of(file), future)

    async def _until(self, prefix: bytes, future: asyncio.Future[None]) -> None:
        try:
            # Its owner gives up after BREAK_DEADLINE; this is for one that hangs.
            async with asyncio.timeout(2 * BREAK_DEADLINE):
                await future
        except TimeoutError:
            return
        finally:
            waiting = self._waiting.get(prefix, [])
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._waiting.pop(prefix, None)

    def tell(self, worker: int, file: Key | None) -> None:
        """Wake what waits for the file in a worker; None: whatever waits there."""
        prefix = b"" if file is None else prefix_of(file)
        if worker == self._store.worker:
            self._wake(prefix)
        else:
            self._store.notifier.send(worker, {"op": "broken", "file": prefix.hex()})

    def _wake(self, prefix: bytes) -> None:
        if not prefix:
            self._wake_all()
        for future in self._waiting.pop(prefix, ()):
            if not future.done():
                future.set_result(None)

    def _wake_all(self) -> None:
        for prefix in list(self._waiting):
            self._wake(prefix)

    def _on_break(self, worker: int, packet: dict[str, Any]) -> None:
        self._begin(self._holdings.get(packet["number"]), packet["to"], worker)

    def _on_broken(self, worker: int, packet: dict[str, Any]) -> None:
        self._wake(bytes.fromhex(packet["file"]))


def keep(table: CachingTable, file: Key, number: int, cached: Cached, client_guid: bytes) -> None:
    """Publish what an open may cache whose client is away."""
    table.put(
        file,
        (KEEPER, number),
        {
            "worker": KEEPER,
            "state": cached.state,
            "breaking": False,
            "oplock": cached.is_oplock,
            "guid": client_guid.hex() if cached.lease_key else "",
            "key": cached.lease_key.hex(),
        },
    )


def give_back(table: CachingTable, file: Key, number: int) -> None:
    """Nothing is kept for that open any more."""
    table.delete(file, (KEEPER, number))


def _name(record: dict[str, Any]) -> tuple[bytes, bytes]:
    """ClientGUID and LeaseKey."""
    return bytes.fromhex(record["guid"]), bytes.fromhex(record["key"])


def _same_lease(record: dict[str, Any], attempt: Attempt) -> bool:
    wanted = attempt.wish.lease
    return (
        wanted is not None
        and record["key"] == wanted.lease_key.hex()
        and record["guid"] == attempt.wish.client_guid.hex()
    )


def _grantable(attempt: Attempt, others: list[dict[str, Any]]) -> int:
    """What of the wish goes together with what others hold and do."""
    granted = attempt.wish.state
    if attempt.locked:
        granted &= ~READ
    if others:
        granted &= ~WRITE
    if attempt.wish.lease is not None:
        if any(record["oplock"] and record["state"] for record in others):
            granted &= ~HANDLE
        return granted if granted & READ else 0
    if any(record["state"] & HANDLE for record in others):
        return 0
    if lease.touches_nothing(attempt.rights) and any(record["state"] for record in others):
        return 0
    if not granted & READ:
        return 0
    return granted if granted & WRITE else READ


def _send(connection: Connection, session_id: int, body: bytes) -> None:
    header = Header(
        command=Command.OPLOCK_BREAK,
        flags=int(HeaderFlags.SERVER_TO_REDIR),
        message_id=_UNASKED,
        session_id=session_id,
    )
    connection.channel.send(header.pack(), body)
