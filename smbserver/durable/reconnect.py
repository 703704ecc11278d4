"""The client is back and names the open that it had ([MS-SMB2] 3.3.5.9.7, 3.3.5.9.12).

What the CREATE says besides, name and rights among it, does not count: the open is as it was.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from smbserver import access, locks, share_modes
from smbserver.acting import acting_for
from smbserver.create_response import answer
from smbserver.durable.opens import may_be_persistent_on
from smbserver.durable.request import DurabilityRequest
from smbserver.open import MAX_OPENS, Open
from smbserver.vfs.errors import status_of
from smbserver.vfs.file import File
from smbserver.vfs.names import ShareName, parse_name
from smbserver.wire import create_contexts as contexts
from smbserver.wire.create import CreateAction, CreateOptions, CreateRequest
from smbserver.wire.create_contexts import Lease, find_context
from smbserver.wire.negotiate import Capabilities
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.dispatch import Call, Reply
    from smbserver.durable.record import Record
    from smbserver.vfs.share import Share

_WRITE_THROUGH = int(CreateOptions.WRITE_THROUGH)
_GONE = NtStatus.OBJECT_NAME_NOT_FOUND


def serve(call: Call, request: CreateRequest, asked: DurabilityRequest) -> Reply | Awaitable[Reply]:
    """Answers with a new FileId of the old open; the persistent half of it is the same."""
    record = call.connection.service.durable_opens.parked.find(asked.reconnect)
    if record is None:
        raise StatusError(_GONE)
    if asked.reconnect_version == 2 and asked.create_guid != record.create_guid:
        raise StatusError(_GONE)
    return take_up(call, request, asked, record, int(CreateAction.OPENED))


def take_up(
    call: Call, request: CreateRequest, asked: DurabilityRequest, record: Record, action: int
) -> Reply | Awaitable[Reply]:
    """Open the file of a parked open again, for the client to whom it belongs."""
    _check(call, request, asked, record)
    # Noted before an interim response takes its place in the header.
    sequence = call.header.channel_sequence
    if not call.connection.service.durable_opens.is_drained(record):
        return _after_draining(call, request, asked, record, action, sequence)
    return _take_up(call, request, record, action, sequence)


async def _after_draining(
    call: Call,
    request: CreateRequest,
    asked: DurabilityRequest,
    record: Record,
    action: int,
    sequence: int,
) -> Reply:
    durable_opens = call.connection.service.durable_opens
    await durable_opens.drain(record)
    found = durable_opens.parked.find(record.persistent_id)
    if found is None or call.session is None or call.tree is None:
        raise StatusError(_GONE)
    if call.session.trees.get(call.tree.id) is not call.tree:
        raise StatusError(NtStatus.NETWORK_NAME_DELETED)
    if not durable_opens.is_drained(found):
        raise StatusError(NtStatus.FILE_NOT_AVAILABLE)  # the client asks again
    _check(call, request, asked, found)
    return _take_up(call, request, found, action, sequence)


# The checks, in the order that decides which of several statuses a client sees


def _check(call: Call, request: CreateRequest, asked: DurabilityRequest, record: Record) -> None:
    assert call.tree is not None
    assert call.session is not None
    lease = _lease(call, request)
    if record.deadline < time.time():
        call.connection.service.durable_opens.end(record)
        raise StatusError(_GONE)
    if lease is not None and record.client_guid != call.connection.client_guid:
        raise StatusError(_GONE)
    if record.share.casefold() != call.tree.share.name.casefold():
        raise StatusError(_GONE)
    if not record.belongs_to(call.session.user):
        raise StatusError(NtStatus.ACCESS_DENIED)
    if record.granted_access & access.MODIFYING & ~call.tree.maximal_access:
        raise StatusError(_GONE)  # the share is read-only meanwhile
    wants_persistent = asked.wants_persistent and may_be_persistent_on(call.tree)
    if record.is_persistent and not wants_persistent:
        raise StatusError(_GONE)
    if wants_persistent and not record.is_persistent:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if (lease.lease_key if lease is not None else b"") != record.cached.lease_key:
        raise StatusError(_GONE)
    if len(call.session.opens) >= MAX_OPENS:
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)


def _lease(call: Call, request: CreateRequest) -> Lease | None:
    found = find_context(request.create_contexts, contexts.REQUEST_LEASE)
    if found is None or not call.connection.capabilities & Capabilities.LEASING:
        return None
    return Lease.parse(found.data)


# The open


def _take_up(
    call: Call, request: CreateRequest, record: Record, action: int, sequence: int
) -> Reply:
    assert call.tree is not None
    assert call.session is not None
    share, service = call.tree.vfs, call.connection.service
    if share is None:
        raise StatusError(_GONE)
    path = share_modes.path_of(record.file) or record.path
    with acting_for(call.tree):
        handle = _open(share, record, path)
        try:
            if record.cached.lease_key:
                _check_name(share, request, record)
            opened = _enter(call, record, path, handle, sequence)
        except BaseException:
            handle.close()
            raise
        opened.create_action = action
        try:
            reply = answer(opened, request, service.caching.of(opened))
        except OSError as error:
            opened.close()
            raise StatusError(status_of(error)) from error
    call.session.opens[opened.volatile_id] = opened
    call.chain.open = opened
    return reply


def _open(share: Share, record: Record, path: str) -> File:
    """The file as it is now, if it is still the same one."""
    try:
        location = share.look_up(ShareName(tuple(path.split("/"))))
        try:
            if not location.exists:
                raise StatusError(_GONE)
            facts = location.facts()
            if (facts.st_dev, facts.st_ino) != record.file[:2]:
                raise StatusError(_GONE)
            return share.open_file(location, access.open_flags(record.granted_access))
        finally:
            location.close()
    except OSError as error:
        raise StatusError(_GONE) from error


def _check_name(share: Share, request: CreateRequest, record: Record) -> None:
    """A lease belongs to a name; for an oplock the name says nothing."""
    location = share.look_up(parse_name(request.name))
    try:
        facts = location.facts() if location.exists else None
    finally:
        location.close()
    if facts is None or (facts.st_dev, facts.st_ino) != record.file[:2]:
        raise StatusError(NtStatus.INVALID_PARAMETER)


def _enter(call: Call, record: Record, path: str, handle: File, sequence: int) -> Open:
    """From parked to open, in one step for all who look."""
    assert call.tree is not None
    durable_opens = call.connection.service.durable_opens
    with durable_opens.parked.transaction:
        if not durable_opens.parked.remove(record):
            raise StatusError(_GONE)
        file = _join(record, path)
        if file is not None:
            opened = Open(
                tree=call.tree,
                handle=handle,
                file=file,
                granted_access=record.granted_access,
                share_access=record.share_access,
                create_options=record.create_options,
                delete_on_close=record.delete_on_close,
                write_through=bool(record.create_options & _WRITE_THROUGH),
                last_position=record.position,
                channel_sequence=sequence,
                lock_sequences=dict(record.lock_sequences),
            )
            locks.resume(opened, record.locks)
            call.connection.service.caching.resume(opened, record.cached, record.client_guid)
    if file is None:
        durable_opens.forget(record)
        raise StatusError(_GONE)
    durable_opens.take_up(opened, record)  # outside, since it may wait for the disk
    return opened


def _join(record: Record, path: str) -> share_modes.SharedFile | None:
    """None: the file is to be deleted. What excludes it otherwise would have made it end."""
    try:
        return share_modes.enter(record.file, path, record.granted_access, record.share_access)
    except StatusError:
        return None
