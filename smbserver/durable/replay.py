"""A CREATE whose answer was lost is sent again ([MS-SMB2] 3.3.5.9.10, SMB2_FLAGS_REPLAY_OPERATION).

Client and CreateGuid name it. What the first one did is told again, as long as the client has not shown by using the
FileId that it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from smbserver.create_response import answer
from smbserver.durable import reconnect
from smbserver.durable.opens import may_be_persistent_on
from smbserver.vfs.errors import status_of
from smbserver.wire import create_contexts as contexts
from smbserver.wire.create_contexts import Lease, find_context
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.dispatch import Call, Reply
    from smbserver.durable.request import DurabilityRequest
    from smbserver.open import Open
    from smbserver.wire.create import CreateRequest

Key = tuple[bytes, bytes]
"""ClientGuid and CreateGuid."""


class Replays:
    """What CREATEs with a CreateGuid have opened in this worker; all of a client come here."""

    def __init__(self) -> None:
        self._found: dict[Key, Open | None] = {}
        """None: the first one is still under way."""

    def is_pending(self, key: Key) -> bool:
        return key in self._found and self._found[key] is None

    def find(self, key: Key) -> Open | None:
        """What was opened and may be told again."""
        opened = self._found.get(key)
        return opened if opened is not None and opened.is_replay_eligible else None

    def begin(self, key: Key) -> None:
        """One is under way."""
        self._found[key] = None

    def note(self, opened: Open, create_guid: bytes) -> None:
        """It has opened this."""
        key = opened.tree.session.client_guid, create_guid
        if key in self._found:
            self._found[key] = opened
            opened.on_close.append(lambda: self._forget(key, opened))

    def abandon(self, key: Key) -> None:
        """It has ended; unless it has opened something, it is as if it had never been."""
        self._forget(key, None)

    def _forget(self, key: Key, opened: Open | None) -> None:
        if key in self._found and self._found[key] is opened:
            del self._found[key]


def serve(
    call: Call,
    request: CreateRequest,
    asked: DurabilityRequest,
    create: Callable[[], Reply | Awaitable[Reply]],
) -> Reply | Awaitable[Reply]:
    """Tell again what is opened, or open it by `create`."""
    service, is_replay = call.connection.service, call.header.is_replay
    key = call.connection.client_guid, asked.create_guid
    if service.replays.is_pending(key):
        raise StatusError(NtStatus.FILE_NOT_AVAILABLE)
    opened = service.replays.find(key)
    if opened is not None:
        if not is_replay or opened.tree.session is not call.session:
            raise StatusError(NtStatus.DUPLICATE_OBJECTID)
        return _tell_again(call, request, asked, opened)
    parked = service.durable_opens.parked.find_created(*key)
    if parked is not None:
        if not is_replay:
            raise StatusError(NtStatus.DUPLICATE_OBJECTID)
        return reconnect.take_up(call, request, asked, parked, parked.create_action)
    assert call.tree is not None
    if is_replay and asked.wants_persistent and may_be_persistent_on(call.tree):
        raise StatusError(NtStatus.FILE_NOT_AVAILABLE)
    return _create(call, key, create)


def _create(
    call: Call, key: Key, create: Callable[[], Reply | Awaitable[Reply]]
) -> Reply | Awaitable[Reply]:
    replays = call.connection.service.replays
    replays.begin(key)
    try:
        outcome = create()
    except BaseException:
        replays.abandon(key)
        raise
    if not isinstance(outcome, Awaitable):
        replays.abandon(key)
        return outcome
    waiting = asyncio.ensure_future(outcome)
    waiting.add_done_callback(lambda _: replays.abandon(key))
    return waiting


def _tell_again(
    call: Call, request: CreateRequest, asked: DurabilityRequest, opened: Open
) -> Reply:
    service = call.connection.service
    holding = service.caching.of(opened)
    granted = opened.durability
    if granted is not None and granted.is_persistent and not asked.wants_persistent:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    found = find_context(request.create_contexts, contexts.REQUEST_LEASE)
    if found is not None:
        key = holding.lease_key if holding is not None else b""
        if Lease.parse(found.data).lease_key != key:
            raise StatusError(NtStatus.ACCESS_DENIED)
    try:
        reply = answer(opened, request, holding, is_replay=True)
    except OSError as error:
        raise StatusError(status_of(error)) from error
    call.chain.open = opened
    service.counters["creates_replayed"] += 1
    return reply
