"""FLUSH ([MS-SMB2] 3.3.5.11): answered when what was written is on disk."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from smbserver import access
from smbserver.dispatch import Reply
from smbserver.vfs.errors import status_of
from smbserver.vfs.threads import in_thread
from smbserver.wire.flush import FlushRequest, FlushResponse
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.dispatch import Call
    from smbserver.open import Open

_FLUSHABLE = access.WRITING
"""Also FILE_ADD_FILE and FILE_ADD_SUBDIRECTORY of directories: the bits are the same."""


def serve(call: Call) -> Reply | Awaitable[Reply]:
    """Refuses opens that could not have written."""
    FlushRequest.parse(call.message)
    opened = call.open
    assert opened is not None  # the opcode table asks for it
    if not opened.granted_access & _FLUSHABLE:
        raise StatusError(NtStatus.ACCESS_DENIED)
    return _flush(opened)


async def _flush(opened: Open) -> Reply:
    try:
        with opened.handle:
            await in_thread(opened.handle.sync)
    except OSError as error:
        raise StatusError(status_of(error)) from error
    return Reply(FlushResponse().pack())
