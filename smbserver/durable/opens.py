"""Durable opens of a worker: which are granted, how they wait, when they make way ([MS-SMB2] 3.3.5.9.6, 3.3.7.1)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from smbserver import lease, locks, share_access, share_modes, vfs
from smbserver.durable.app_instance import AppInstances
from smbserver.durable.parked import Parked
from smbserver.durable.persistent import PersistentOpens
from smbserver.durable.record import Cached, Durability, Record
from smbserver.identity import identity_of
from smbserver.lease import HANDLE, WRITE
from smbserver.oplock import MustWait
from smbserver.store import KEEPER
from smbserver.user import User
from smbserver.vfs.file import File
from smbserver.wire.negotiate import Dialect
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.durable.request import DurabilityRequest
    from smbserver.lease import Holding
    from smbserver.open import Open
    from smbserver.oplock import Attempt
    from smbserver.service import Service
    from smbserver.session import Session
    from smbserver.store import Packet
    from smbserver.tree import Tree

log = logging.getLogger(__name__)


class Vanished(Exception):
    """What was looked up is gone: it was to be deleted with the open that has made way."""


class DurableOpens:
    """Those that clients of this worker have, and those that wait for their clients, whoever they are."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store
        self.parked = Parked(self._store)
        self._persistent = PersistentOpens(self._store)
        self._instances = AppInstances(service)
        self.on_parked: Callable[[float], None] | None = None
        """Told for how many seconds one more open waits: somebody must call `expire` then."""
        self._draining: dict[int, asyncio.Future[None]] = {}
        self._store.notifier.on("drain", self._on_drain)

    # 1. granted

    def grant(self, opened: Open, asked: DurabilityRequest, holding: Holding | None) -> None:
        """Let a new open wait for its client, where it can: its handle is cached, or the share keeps it on disk."""
        share = opened.tree.share
        if not asked.version or not share.durable_handles or not isinstance(opened.handle, File):
            return
        is_persistent = asked.wants_persistent and may_be_persistent_on(opened.tree)
        if not is_persistent and (holding is None or not holding.state & HANDLE):
            return
        opened.durability = Durability(
            secrets.randbits(63) | 1,
            asked.timeout,
            is_persistent,
            asked.create_guid,
            asked.app_instance_id,
        )
        self._service.counters["durable_opens"] += 1
        self._keep_on_disk(opened)
        if asked.app_instance_id:
            self._instances.enter(opened, asked.app_instance_id)

    def _keep_on_disk(self, opened: Open) -> None:
        if opened.durability is not None and opened.durability.is_persistent:
            opened.write_through = True  # what is acknowledged must survive the host too
            self.changed(opened)
            opened.on_close.append(lambda: self._closed(opened))

    def _closed(self, opened: Open) -> None:
        if opened.durability is not None:
            self._persistent.forget(opened.durability.persistent_id)

    def changed(self, opened: Open) -> None:
        """What is on disk of a persistent open is no longer right."""
        if opened.durability is not None and opened.durability.is_persistent:
            self._persistent.note(self._describe(opened, opened.durability, self._store.worker))

    # 2. waiting

    def park_all(self, session: Session) -> None:
        """The session ends: keep of it what may wait for the client."""
        for opened in list(session.opens.values()):
            if opened.durability is not None and self._may_wait(opened, opened.durability):
                del session.opens[opened.volatile_id]
                self._park(opened, opened.durability)

    def _may_wait(self, opened: Open, durability: Durability) -> bool:
        """[MS-SMB2] 3.3.7.1. Ranges are kept only where nobody else can have the file open, as Samba does."""
        if durability.is_persistent:
            return True
        holding = self._service.caching.of(opened)
        if holding is None or holding.breaking or not holding.state & HANDLE:
            return False
        return bool(holding.state & WRITE) or not locks.held_by(opened)

    def _park(self, opened: Open, durability: Durability) -> None:
        identity, handle = durability.persistent_id, opened.handle
        owner = self._store.worker if handle.in_use else KEEPER
        record = self._describe(opened, durability, owner, time.time() + durability.timeout)
        if handle.in_use:
            # What the client sent before must be written before it can send more.
            self._draining[identity] = asyncio.get_running_loop().create_future()
            handle.on_unused = lambda: self._drained(identity)
        if durability.is_persistent:
            self._persistent.note(dataclasses.replace(record, worker=KEEPER))
        opened.durability, opened.delete_on_close = None, False
        with self.parked.transaction:
            self.parked.enter(record)
            opened.close()
        self._service.counters["durable_opens_parked"] += 1
        if self.on_parked is not None:
            self.on_parked(durability.timeout)

    def _drained(self, identity: int) -> None:
        future = self._draining.pop(identity)
        if not future.done():
            future.set_result(None)
        record = self.parked.find(identity)
        if record is not None and record.worker == self._store.worker:
            self.parked.hand_over(record)

    async def drain(self, record: Record) -> None:
        """Return when the worker that had the open has written what it was sent, or does not answer."""
        await self._store.notifier.ask(record.worker, {"op": "drain", "open": record.persistent_id})

    async def _on_drain(self, worker: int, packet: Packet) -> Packet:
        future = self._draining.get(packet["open"])
        if future is not None:
            await asyncio.shield(future)
        return {}

    def is_drained(self, record: Record) -> bool:
        """Whether nothing is written through it any more."""
        return record.worker == KEEPER or self._store.is_dead(record.worker)

    def take_up(self, opened: Open, record: Record) -> None:
        """The client has come back: the open is as it was before."""
        opened.durability = Durability(
            record.persistent_id,
            record.timeout,
            record.is_persistent,
            record.create_guid,
            record.app_instance_id,
        )
        self._service.counters["durable_opens_taken_up"] += 1
        self._keep_on_disk(opened)
        if record.app_instance_id:
            self._instances.enter(opened, record.app_instance_id)

    # 3. making way

    def make_way(
        self, attempt: Attempt, share_access: int, program: bytes, client_guid: bytes
    ) -> frozenset[int]:
        """An open comes: who waits and would have to give something up for it ends; a persistent one does not.

        Returns the persistent ids of those that go on waiting.

        `program`: the AppInstanceId. What the same program had from another client ends in any case.
        """
        # First those that are open: one that is parked meanwhile is found among the parked.
        asked = bool(program) and self._instances.end_others(program, client_guid, attempt.file)
        vanished, staying = False, set()
        for record in self.parked.of_file(attempt.file):
            is_moved = record.app_instance_id == program and record.client_guid != client_guid
            if record.deadline < time.time() or (program and is_moved):
                vanished |= self.end(record)
            elif _is_in_the_way(record, attempt, share_access):
                if record.is_persistent:
                    raise StatusError(NtStatus.FILE_NOT_AVAILABLE)
                self._service.counters["durable_opens_gave_way"] += 1
                vanished |= self.end(record)
            else:
                staying.add(record.persistent_id)
        if vanished:
            raise Vanished
        if asked:
            raise MustWait(attempt.file)
        return frozenset(staying)

    def lower(self, persistent_id: int, state: int) -> None:
        """The client may cache only so much from now on, and cannot be told."""
        record = self.parked.find(persistent_id)
        if record is None:
            return
        if not record.is_persistent:
            self._service.counters["durable_opens_gave_way"] += 1
            self.end(record)
            return
        cached = dataclasses.replace(record.cached, state=record.cached.state & state)
        lowered = dataclasses.replace(record, cached=cached)
        with self.parked.transaction:
            self.parked.remove(record)
            self.parked.enter(lowered)
        self._persistent.note(lowered)

    def expire(self, now: float) -> None:
        """Wait no longer for those whose time is up."""
        for record in self.parked.all():
            if record.deadline <= now:
                self._service.counters["durable_opens_expired"] += 1
                self.end(record)

    def end(self, record: Record) -> bool:
        """What CLOSE would do; True if the file went with it."""
        path = share_modes.path_of(record.file) or record.path
        if not self.parked.remove(record):
            return False
        self.forget(record)
        if not record.delete_on_close or share_modes.delete_with_the_last(record.file):
            return False
        return self._delete(record, path)

    def forget(self, record: Record) -> None:
        """Nothing is left of it."""
        if record.is_persistent:
            self._persistent.forget(record.persistent_id)

    def _delete(self, record: Record, path: str) -> bool:
        share = self._service.config.share(record.share)
        if share is None:
            return False
        try:
            user = User(*record.user)
            whose = share_access.forced_user(share, user) or user
            with (
                identity_of(whose.uid, whose.gid),
                contextlib.closing(vfs.open_share(share)) as folder,
            ):
                folder.remove(path, record.file[:2], is_directory=False)
        except (OSError, StatusError) as error:
            log.info("%s was to be deleted on close: %s", path, error)
            return False
        return True

    def _describe(
        self, opened: Open, durability: Durability, worker: int, deadline: float = 0.0
    ) -> Record:
        session, holding = opened.tree.session, self._service.caching.of(opened)
        user = session.user
        assert user is not None
        return Record(
            persistent_id=durability.persistent_id,
            worker=worker,
            timeout=durability.timeout,
            deadline=deadline,
            is_persistent=durability.is_persistent,
            create_guid=durability.create_guid,
            app_instance_id=durability.app_instance_id,
            client_guid=session.client_guid,
            user=(user.name, user.uid, user.guest),
            share=opened.tree.share.name,
            file=opened.file.key,
            path=opened.path,
            granted_access=opened.granted_access,
            share_access=opened.share_access,
            create_options=opened.create_options,
            create_action=opened.create_action,
            delete_on_close=opened.delete_on_close,
            position=opened.position,
            cached=Cached() if holding is None else holding.kept(),
            locks=locks.held_by(opened),
            lock_sequences=tuple(opened.lock_sequences.items()),
        )


def may_be_persistent_on(tree: Tree) -> bool:
    """Persistent handles are of dialect 3.0, on shares that say so."""
    return tree.share.continuous_availability and tree.session.dialect >= Dialect.SMB_3_0


def _is_in_the_way(record: Record, attempt: Attempt, share_access: int) -> bool:
    """What an open that is there would be asked to give up, or be refused for ([MS-FSA] 2.1.5.1.2)."""
    mine, cached = attempt.wish.lease, record.cached
    theirs = record.granted_access, record.share_access
    if share_modes.exclude((attempt.rights, share_access), theirs):
        return True
    if (
        mine is not None
        and cached.lease_key
        and (mine.lease_key, attempt.wish.client_guid) == (cached.lease_key, record.client_guid)
    ):
        return False
    if lease.touches_nothing(attempt.rights):
        return False
    if cached.lease_key and lease.touches_no_lease(attempt.rights):
        return False
    return bool(cached.state & (WRITE if not attempt.overwrites else ~0))
