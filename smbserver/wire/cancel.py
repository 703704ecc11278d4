"""CANCEL: take back a request; it has no response ([MS-SMB2] 2.2.30)."""

from __future__ import annotations

from smbserver.wire.empty import EmptyBody


class CancelRequest(EmptyBody):
    """SMB2 CANCEL Request ([MS-SMB2] 2.2.30)."""

    __slots__ = ()
