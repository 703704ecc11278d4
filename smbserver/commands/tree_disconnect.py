"""TREE_DISCONNECT: the session leaves a share ([MS-SMB2] 3.3.5.8)."""

from __future__ import annotations

from smbserver.dispatch import Call, Reply
from smbserver.wire.tree_disconnect import TreeDisconnectRequest, TreeDisconnectResponse

_BODY = TreeDisconnectResponse().pack()


def serve(call: Call) -> Reply:
    """Close what was opened through the tree connect, and it."""
    TreeDisconnectRequest.parse(call.message)
    assert call.tree is not None
    call.tree.close()
    call.chain.tree = call.chain.open = None
    return Reply(_BODY)
