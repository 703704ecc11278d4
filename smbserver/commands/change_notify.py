"""CHANGE_NOTIFY: word of changes in a folder ([MS-SMB2] 3.3.5.19).

Folders are not watched yet. The request waits until it is cancelled or its open is closed: clients
that are refused stop working (Finder freezes, Explorer shows errors), those that wait only refresh later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from smbserver.dispatch import Call, Reply
from smbserver.wire.change_notify import ChangeNotifyRequest, ChangeNotifyResponse
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.open import Open


def serve(call: Call) -> Reply | Awaitable[Reply]:
    """Check, and wait."""
    request = ChangeNotifyRequest.parse(call.message)
    opened = call.open
    assert opened is not None
    if request.output_buffer_length > call.connection.max_transact_size:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not opened.is_directory:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not call.connection.may_wait():
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    return _wait(opened)


async def _wait(opened: Open) -> Reply:
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not closed.done():
            closed.set_result(None)

    opened.on_close.append(wake)
    try:
        await closed
    finally:
        opened.on_close.remove(wake)
    return Reply(ChangeNotifyResponse().pack(), NtStatus.NOTIFY_CLEANUP)
