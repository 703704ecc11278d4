"""TREE_DISCONNECT: leaving a share ([MS-SMB2] 2.2.11, 2.2.12)."""

from __future__ import annotations

from smbserver.wire.empty import EmptyBody


class TreeDisconnectRequest(EmptyBody):
    """SMB2 TREE_DISCONNECT Request ([MS-SMB2] 2.2.11)."""

    __slots__ = ()


class TreeDisconnectResponse(EmptyBody):
    """SMB2 TREE_DISCONNECT Response ([MS-SMB2] 2.2.12)."""

    __slots__ = ()
