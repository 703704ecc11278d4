"""ECHO: a sign of life ([MS-SMB2] 3.3.5.17)."""

from __future__ import annotations

from smbserver.dispatch import Call, Reply
from smbserver.wire.echo import EchoRequest, EchoResponse

_BODY = EchoResponse().pack()


def serve(call: Call) -> Reply:
    """Answer."""
    EchoRequest.parse(call.message)
    return Reply(_BODY)
