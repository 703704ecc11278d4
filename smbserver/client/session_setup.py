"""SESSION_SETUP as a client: a new session, or one more channel of it ([MS-SMB2] 3.2.5.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from smbserver.client.authentication import Authentication
from smbserver.client.connection import (
    PLAIN,
    BadSignature,
    Connection,
    Protection,
    Request,
    Response,
)
from smbserver.keys import Keys, derive
from smbserver.signing import Signer, signer_for
from smbserver.wire.header import Command, Header
from smbserver.wire.negotiate import Capabilities, Dialect
from smbserver.wire.session_setup import (
    SessionFlags,
    SessionSetupFlags,
    SessionSetupRequest,
    SessionSetupResponse,
)
from smbserver.wire.status import NtStatus

_UNAUTHENTICATED = SessionFlags.IS_GUEST | SessionFlags.IS_NULL


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs on, and to which host."""

    user: str
    password: str = field(repr=False)
    host: str


@dataclass(frozen=True, slots=True)
class Authenticated:
    """What a SESSION_SETUP led to."""

    session_id: int
    session_flags: int
    keys: Keys
    signer: Signer
    """With this authentication's signing key, in the connection's algorithm."""

    @property
    def is_user(self) -> bool:
        """Neither guest nor anonymous: there are keys that the server has as well."""
        return not self.session_flags & _UNAUTHENTICATED


async def authenticate(
    connection: Connection,
    credentials: Credentials,
    *,
    session_id: int = 0,
    binding: Signer | None = None,
    previous_session_id: int = 0,
) -> Authenticated:
    """All legs of an authentication. `binding`: the session's signer, to bind this connection to it."""
    options = connection.options
    authentication = Authentication(
        credentials.user, credentials.password, credentials.host, in_spnego=options.spnego
    )
    preauth = connection.preauth.copy()
    flags = SessionSetupFlags.BINDING if binding else 0
    protection = Protection(binding, verify=False) if binding else PLAIN
    token = authentication.step(None)
    while True:
        body = SessionSetupRequest(
            token, flags, options.security_mode, Capabilities.DFS, previous_session_id
        )
        header = Header(command=Command.SESSION_SETUP, session_id=session_id)
        (sent,) = await connection.send([Request(header, (body.pack(),))], protection)
        preauth.update(*sent.sent)
        response = (await sent.answer).expect(NtStatus.MORE_PROCESSING_REQUIRED)
        answer = SessionSetupResponse.parse(response.message)
        session_id = response.header.session_id
        if response.status == NtStatus.SUCCESS:
            break
        preauth.update(response.message)
        token = authentication.step(bytes(answer.security_buffer))
    if answer.security_buffer and not authentication.complete:
        authentication.step(bytes(answer.security_buffer))
    agreed = connection.negotiated
    keys = derive(agreed.dialect, authentication.session_key, preauth.value, agreed.cipher)
    signer = signer_for(agreed.signing_algorithm, keys.signing)
    outcome = Authenticated(session_id, answer.session_flags, keys, signer)
    _verify(connection, outcome, response, must_be_signed=binding is not None)
    return outcome


def _verify(
    connection: Connection, outcome: Authenticated, response: Response, *, must_be_signed: bool
) -> None:
    """The last response proves, by its signature, that the server has the same keys and hash."""
    if not outcome.is_user:
        if connection.options.sign or must_be_signed:
            raise BadSignature("the server took us as a guest, and guests cannot sign")
        return
    must_be_signed |= connection.negotiated.dialect >= Dialect.SMB_3_1_1
    if response.header.is_signed:
        if not outcome.signer.verify(response.message):
            raise BadSignature("the last answer to SESSION_SETUP is signed wrongly")
    elif must_be_signed:
        raise BadSignature("the last answer to SESSION_SETUP is not signed")
