"""OPLOCK_BREAK: the client gives caching back ([MS-SMB2] 3.3.5.22).

No oplocks and no leases are granted yet, so nothing can be acknowledged.
"""

from __future__ import annotations

from smbserver.dispatch import Call, Reply
from smbserver.wire.oplock_break import OplockBreak, parse_break
from smbserver.wire.status import NtStatus, StatusError


def serve(call: Call) -> Reply:
    """Refuse with the status for an oplock, or a lease, that was never granted."""
    acknowledgment = parse_break(call.message)
    if not isinstance(acknowledgment, OplockBreak):
        raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)
    assert call.session is not None
    if acknowledgment.file_id.volatile not in call.session.opens:
        raise StatusError(NtStatus.FILE_CLOSED)
    raise StatusError(NtStatus.INVALID_OPLOCK_PROTOCOL)
