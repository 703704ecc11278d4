"""FSCTL_VALIDATE_NEGOTIATE_INFO: was the negotiation tampered with? ([MS-SMB2] 3.3.5.15.12)"""

from __future__ import annotations

from smbserver.commands.negotiate import choose_dialect
from smbserver.dispatch import Call
from smbserver.wire.ioctl import (
    IoctlRequest,
    ValidateNegotiateInfoRequest,
    ValidateNegotiateInfoResponse,
)
from smbserver.wire.status import NtStatus, StatusError


def serve(call: Call, request: IoctlRequest) -> bytes:
    """Compare what the client says it sent with what came; end the connection if they differ."""
    connection = call.connection
    claimed = ValidateNegotiateInfoRequest.parse(request.input)
    general = connection.service.config.general
    honest = (
        claimed.guid == connection.client_guid
        and claimed.capabilities == connection.client_capabilities
        and claimed.security_mode == connection.client_security_mode
        and choose_dialect(general, claimed.dialects) == connection.dialect
    )
    if not honest:
        connection.count("negotiations_tampered")
        connection.fail("VALIDATE_NEGOTIATE_INFO differs from the NEGOTIATE that came")
        raise StatusError(NtStatus.ACCESS_DENIED)
    assert connection.dialect is not None
    return ValidateNegotiateInfoResponse(
        connection.capabilities,
        connection.service.server_guid,
        connection.security_mode,
        connection.dialect,
    ).pack()
