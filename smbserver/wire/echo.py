"""ECHO: is the other side alive ([MS-SMB2] 2.2.28, 2.2.29)."""

from __future__ import annotations

from smbserver.wire.empty import EmptyBody


class EchoRequest(EmptyBody):
    """SMB2 ECHO Request ([MS-SMB2] 2.2.28)."""

    __slots__ = ()


class EchoResponse(EmptyBody):
    """SMB2 ECHO Response ([MS-SMB2] 2.2.29)."""

    __slots__ = ()
