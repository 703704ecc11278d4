"""LOGOFF: the session ends on all its channels ([MS-SMB2] 3.3.5.6)."""

from __future__ import annotations

from smbserver.dispatch import Call, Reply
from smbserver.wire.logoff import LogoffRequest, LogoffResponse

_BODY = LogoffResponse().pack()


def serve(call: Call) -> Reply:
    """Close every open, tree and binding; the connections stay."""
    LogoffRequest.parse(call.message)
    assert call.session is not None
    call.connection.service.end_session(call.session)
    return Reply(_BODY)
