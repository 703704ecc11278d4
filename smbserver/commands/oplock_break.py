"""OPLOCK_BREAK: the client gives caching back ([MS-SMB2] 3.3.5.22)."""

from __future__ import annotations

from smbserver.dispatch import Call, Reply
from smbserver.lease import READ
from smbserver.wire.create import OplockLevel
from smbserver.wire.oplock_break import (
    LeaseBreakAcknowledgment,
    LeaseBreakNotification,
    OplockBreak,
    parse_break,
)
from smbserver.wire.status import NtStatus, StatusError


def serve(call: Call) -> Reply:
    """Only what was asked for can be acknowledged."""
    acknowledgment = parse_break(call.message)
    if isinstance(acknowledgment, OplockBreak):
        return _oplock(call, acknowledgment)
    if isinstance(acknowledgment, LeaseBreakNotification):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    return _lease(call, acknowledgment)


def _oplock(call: Call, acknowledgment: OplockBreak) -> Reply:
    """[MS-SMB2] 3.3.5.22.1."""
    assert call.session is not None
    opened = call.session.opens.get(acknowledgment.file_id.volatile)
    if opened is None or opened.persistent_id != acknowledgment.file_id.persistent:
        raise StatusError(NtStatus.FILE_CLOSED)
    level = acknowledgment.oplock_level
    if level not in (OplockLevel.NONE, OplockLevel.II):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    caching = call.connection.service.caching
    holding = caching.of(opened)
    if holding is None or holding.is_lease or not holding.breaking:
        raise StatusError(NtStatus.INVALID_OPLOCK_PROTOCOL)
    caching.lower(holding, holding.requested if level == OplockLevel.II else 0)
    level = OplockLevel.II if holding.state & READ else OplockLevel.NONE
    return Reply(OplockBreak(acknowledgment.file_id, level).pack())


def _lease(call: Call, acknowledgment: LeaseBreakAcknowledgment) -> Reply:
    """[MS-SMB2] 3.3.5.22.2. Any connection of the client may bring it."""
    caching = call.connection.service.caching
    holding = caching.lease(call.connection.client_guid, bytes(acknowledgment.lease_key))
    if holding is None:
        raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)
    if not holding.breaking:
        raise StatusError(NtStatus.UNSUCCESSFUL)
    if acknowledgment.lease_state & ~holding.requested:
        raise StatusError(NtStatus.REQUEST_NOT_ACCEPTED)
    caching.lower(holding, acknowledgment.lease_state)
    return Reply(LeaseBreakAcknowledgment(holding.lease_key, acknowledgment.lease_state).pack())
