"""CLOSE ([MS-SMB2] 3.3.5.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smbserver.acting import as_user
from smbserver.dispatch import Reply
from smbserver.vfs.errors import status_of
from smbserver.wire.close import CloseFlags, CloseRequest, CloseResponse
from smbserver.wire.status import StatusError

if TYPE_CHECKING:
    from smbserver.dispatch import Call
    from smbserver.open import Open

_POSTQUERY_ATTRIB = int(CloseFlags.POSTQUERY_ATTRIB)


@as_user
def serve(call: Call) -> Reply:
    """Ends the open; tells the attributes as they were just before, if asked."""
    request = CloseRequest.parse(call.message)
    opened, session = call.open, call.session
    assert opened is not None
    assert session is not None
    response = CloseResponse()
    if request.flags & _POSTQUERY_ATTRIB:
        response = _attributes(opened)
    del session.opens[opened.volatile_id]
    call.chain.open = None
    opened.close()
    return Reply(response.pack())


def _attributes(opened: Open) -> CloseResponse:
    try:
        facts = opened.metadata()
    except OSError as error:
        raise StatusError(status_of(error)) from error
    return CloseResponse(
        _POSTQUERY_ATTRIB,
        facts.creation_time,
        facts.last_access_time,
        facts.last_write_time,
        facts.change_time,
        facts.allocation,
        facts.size,
        facts.attributes,
    )
