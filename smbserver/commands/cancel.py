"""CANCEL: a request that waits is to end now ([MS-SMB2] 3.3.5.16)."""

from __future__ import annotations

from smbserver.dispatch import Call


def serve(call: Call) -> None:
    """Cancel it; the request itself is answered, CANCEL is not."""
    call.connection.cancel(call)
