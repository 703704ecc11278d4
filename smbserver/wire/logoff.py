"""LOGOFF: the end of a session on all its channels ([MS-SMB2] 2.2.7, 2.2.8)."""

from __future__ import annotations

from smbserver.wire.empty import EmptyBody


class LogoffRequest(EmptyBody):
    """SMB2 LOGOFF Request ([MS-SMB2] 2.2.7)."""

    __slots__ = ()


class LogoffResponse(EmptyBody):
    """SMB2 LOGOFF Response ([MS-SMB2] 2.2.8)."""

    __slots__ = ()
