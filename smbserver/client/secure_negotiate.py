"""Was the negotiation tampered with? Asked, signed, before 3.1.1 ([MS-SMB2] 3.2.5.5, 3.2.5.14.12)."""

from __future__ import annotations

from smbserver.client.connection import Connection
from smbserver.client.tree import Tree
from smbserver.wire.ioctl import (
    CtlCode,
    ValidateNegotiateInfoRequest,
    ValidateNegotiateInfoResponse,
)
from smbserver.wire.negotiate import Dialect
from smbserver.wire.status import NtStatus, StatusError

_OLD_SERVER = (
    NtStatus.NOT_SUPPORTED,
    NtStatus.INVALID_DEVICE_REQUEST,
    NtStatus.FILE_CLOSED,
)
"""What servers answer, signed, that do not know the question."""


class Tampered(ConnectionError):
    """The server did not send, or did not get, the NEGOTIATE that we know of."""


def is_due(connection: Connection) -> bool:
    """3.1.1 proves it by its hash; who offered no 3.x dialect has nothing to lose."""
    offered = max(connection.options.dialects)
    return connection.negotiated.dialect < Dialect.SMB_3_1_1 and offered >= Dialect.SMB_3_0


async def validate(connection: Connection, tree: Tree) -> None:
    """Asks on a tree of this connection; Tampered if the server remembers otherwise."""
    options, agreed = connection.options, connection.negotiated
    question = ValidateNegotiateInfoRequest(
        options.capabilities, options.client_guid, options.security_mode, options.dialects
    )
    try:
        output = await tree.ioctl(
            CtlCode.FSCTL_VALIDATE_NEGOTIATE_INFO, question.pack(), max_output=24, signed=True
        )
    except StatusError as error:
        if error.status in _OLD_SERVER:
            return
        raise
    expected = ValidateNegotiateInfoResponse(
        agreed.capabilities, agreed.server_guid, agreed.security_mode, agreed.dialect
    )
    answer = ValidateNegotiateInfoResponse.parse(output)
    if answer != expected:
        await connection.close("the negotiation was tampered with")
        raise Tampered(f"the server says {answer}, its NEGOTIATE response said {expected}")
