"""SESSION_SETUP: a new session, one more channel for one, or a new proof of who it is ([MS-SMB2] 3.3.5.5).

1. `serve` decides what the request is about;
2. a binding passes the checks of `_check_binding`; whoever it refuses, the session lives on;
3. the acceptor takes one leg of the authentication after the other;
4. the last leg derives the keys and signs with them.
"""

from __future__ import annotations

from collections.abc import Awaitable

from smbserver import keys, passing
from smbserver.auth.acceptor import Acceptor
from smbserver.connection import MAX_AUTHENTICATIONS, Authentication, Connection
from smbserver.dispatch import Call, Reply
from smbserver.encryption import Cipher
from smbserver.session import MAX_CHANNELS, Binding, Session, SessionState
from smbserver.signing import signer_for
from smbserver.user import User
from smbserver.wire.negotiate import Dialect, SecurityMode
from smbserver.wire.negotiate_contexts import SigningAlgorithm
from smbserver.wire.session_setup import (
    SessionFlags,
    SessionSetupFlags,
    SessionSetupRequest,
    SessionSetupResponse,
)
from smbserver.wire.status import NtStatus, StatusError


def serve(call: Call) -> Reply | Awaitable[Reply] | None:
    """Take one leg of a new session, a binding or a reauthentication. None: another worker answers."""
    request = SessionSetupRequest.parse(call.message)
    connection, session_id = call.connection, call.header.session_id
    if request.flags & SessionSetupFlags.BINDING and passing.may_move(call):
        passing.move(call)
        return None
    if request.flags & SessionSetupFlags.BINDING:
        authentication = _begin_binding(call)
    elif session_id == 0:
        authentication = _begin_session(call)
    elif session_id in connection.bindings:
        authentication = _reauthenticate(call)
    elif session_id in connection.authentications:
        authentication = connection.authentications[session_id]
        if authentication.binding:
            raise StatusError(NtStatus.REQUEST_NOT_ACCEPTED)
    else:
        raise StatusError(NtStatus.USER_SESSION_DELETED)
    call.session = authentication.session
    authentication.preauth.update(call.message)
    try:
        answer = authentication.acceptor.step(bytes(request.security_buffer))
        if authentication.acceptor.user is None:
            body = SessionSetupResponse(answer).pack()
            return Reply(body, NtStatus.MORE_PROCESSING_REQUIRED)
        return _finish(call, request, authentication, answer)
    except StatusError:
        connection.count("authentications_failed")
        _abandon(connection, authentication)
        raise


# 1. What it is about


def _acceptor(connection: Connection) -> Acceptor:
    if len(connection.authentications) >= MAX_AUTHENTICATIONS:
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    general = connection.service.config.general
    return Acceptor(
        connection.service.passdb,
        general.guest_account,
        map_to_guest=general.map_to_guest == "bad_user",
        kerberos=connection.service.kerberos,
    )


def _begin_session(call: Call) -> Authentication:
    """[MS-SMB2] 3.3.5.5.1."""
    connection = call.connection
    service = connection.service
    acceptor = _acceptor(connection)
    assert connection.dialect is not None
    session = Session(
        service.store.session_id(),
        connection.dialect,
        connection.client_guid,
        connection.cipher_id,
        connection.signing_algorithm,
    )
    if not service.add_session(session):
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    authentication = Authentication(session, acceptor, connection.preauth.copy())
    connection.authentications[session.id] = authentication
    return authentication


def _reauthenticate(call: Call) -> Authentication:
    """[MS-SMB2] 3.3.5.5.2: who it is may be proved again; the keys stay."""
    connection = call.connection
    binding = connection.bindings[call.header.session_id]
    connection.verify(call, binding)
    session = binding.session
    authentication = connection.authentications.get(session.id)
    if authentication is None:
        authentication = Authentication(session, _acceptor(connection), connection.preauth.copy())
        connection.authentications[session.id] = authentication
    return authentication


def _begin_binding(call: Call) -> Authentication:
    """Both legs of a binding come here: both are checked and signed."""
    connection, session_id = call.connection, call.header.session_id
    if session_id == 0:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    session = connection.service.sessions.get(session_id)
    if session is None:
        raise StatusError(NtStatus.USER_SESSION_DELETED)
    bound = connection.bindings.get(session_id)
    if call.header.is_signed:
        call.signer = bound.signer if bound is not None else session.signer
    _check_binding(call, session)
    authentication = connection.authentications.get(session_id)
    if authentication is None:
        authentication = Authentication(
            session, _acceptor(connection), connection.preauth.copy(), binding=True
        )
        connection.authentications[session_id] = authentication
    return authentication


# 2. The checks of a binding


def _check_binding(call: Call, session: Session) -> None:
    """[MS-SMB2] 3.3.5.5 step 4, in the order that decides which of several statuses a client sees."""
    connection = call.connection
    gmac = SigningAlgorithm.AES_GMAC
    ours, theirs = connection.signing_algorithm, session.signing_algorithm
    if ours != theirs and theirs == gmac:
        raise StatusError(NtStatus.REQUEST_OUT_OF_SEQUENCE)
    if ours != theirs and ours == gmac:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    assert connection.dialect is not None
    if connection.dialect < Dialect.SMB_3_0:
        raise StatusError(NtStatus.REQUEST_NOT_ACCEPTED)
    if not connection.service.config.general.server_multi_channel_support:
        raise StatusError(NtStatus.REQUEST_NOT_ACCEPTED)
    if not call.header.is_signed:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if session.dialect != connection.dialect:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if session.cipher_id != connection.cipher_id:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if session.client_guid != connection.client_guid:
        raise StatusError(NtStatus.USER_SESSION_DELETED)
    if session.state is not SessionState.VALID:
        raise StatusError(NtStatus.REQUEST_NOT_ACCEPTED)
    if session.has_expired:
        raise StatusError(NtStatus.NETWORK_SESSION_EXPIRED)
    if call.signer is None:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    if len(session.bindings) >= MAX_CHANNELS:
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    if not call.signer.verify(call.message):
        connection.count("bad_signatures")
        raise StatusError(NtStatus.ACCESS_DENIED)
    if session.id in connection.bindings:
        raise StatusError(NtStatus.REQUEST_NOT_ACCEPTED)


# 4. The last leg


def _finish(
    call: Call, request: SessionSetupRequest, authentication: Authentication, answer: bytes
) -> Reply | Awaitable[Reply]:
    connection, session = call.connection, authentication.session
    user = authentication.acceptor.user
    assert user is not None
    reauthenticated = not authentication.binding and session.state is SessionState.VALID
    if user.anonymous and not reauthenticated:
        raise StatusError(NtStatus.ACCESS_DENIED, words="anonymous clients are not served")
    if authentication.binding:
        _finish_binding(call, authentication, user)
    elif reauthenticated:
        _finish_reauthentication(call, authentication, user)
    else:
        _finish_session(call, request, authentication, user)
    connection.authentications.pop(session.id, None)
    flags = SessionFlags.IS_GUEST if user.guest else 0
    flags |= SessionFlags.IS_NULL if user.anonymous else 0
    if session.encrypt_data:
        flags |= SessionFlags.ENCRYPT_DATA
    reply = Reply(SessionSetupResponse(answer, flags).pack())
    if not authentication.binding and passing.is_elsewhere(
        connection.service, request.previous_session_id
    ):
        return _after_previous(connection, request.previous_session_id, user, reply)
    if connection.channel.facts.transport == "rdma" and connection.pool is None:
        return _with_pool(connection, reply)
    return reply


async def _after_previous(
    connection: Connection, previous_id: int, user: User, reply: Reply
) -> Reply:
    """The session before a reconnect has ended when the client learns of the new one."""
    await passing.end_elsewhere(connection.service, previous_id, user)
    return await _with_pool(connection, reply)


async def _with_pool(connection: Connection, reply: Reply) -> Reply:
    """Memory for RDMA is registered for who has authenticated, before its first READ can come."""
    await connection.attach_pool()
    return reply


def _finish_session(
    call: Call, request: SessionSetupRequest, authentication: Authentication, user: User
) -> None:
    """[MS-SMB2] 3.3.5.5.3."""
    connection, session = call.connection, authentication.session
    service = connection.service
    required = (connection.security_mode | request.security_mode) & SecurityMode.SIGNING_REQUIRED
    _check_policy(connection, user, bool(required))
    if not user.guest:
        derived = keys.derive(
            session.dialect,
            authentication.acceptor.session_key,
            authentication.preauth.value,
            connection.cipher_id,
        )
        session.keys = derived
        session.signer = signer_for(connection.signing_algorithm, derived.signing)
        if connection.cipher_id:
            session.cipher = Cipher(
                connection.cipher_id, derived.server_to_client, derived.client_to_server
            )
        session.signing_required = bool(required)
        policy = service.config.general.server_smb_encrypt
        session.encrypt_data = policy in ("desired", "required") and session.cipher is not None
    session.user = session.owner = user
    session.last_until(authentication.acceptor.ends)
    _end_previous(call, request.previous_session_id, user)
    session.state = SessionState.VALID
    connection.bind(Binding(session, connection, session.signer))
    call.signer = session.signer


def _finish_reauthentication(call: Call, authentication: Authentication, user: User) -> None:
    """What is open stays open; what is opened from now on is opened by this user."""
    session = authentication.session
    if user != session.owner and not user.anonymous:
        raise StatusError(NtStatus.ACCESS_DENIED)
    session.user = user
    session.last_until(authentication.acceptor.ends)
    call.signer = call.connection.bindings[session.id].signer


def _check_policy(connection: Connection, user: User, signing_required: bool) -> None:
    encryption = connection.service.config.general.server_smb_encrypt
    if encryption == "required" and (user.guest or not connection.cipher_id):
        raise StatusError(NtStatus.ACCESS_DENIED)
    if user.guest and signing_required:
        raise StatusError(NtStatus.ACCESS_DENIED)


def _finish_binding(call: Call, authentication: Authentication, user: User) -> None:
    """The new channel signs with a key of its own; it is what signs this response."""
    connection, session = call.connection, authentication.session
    if user != session.owner:
        raise StatusError(NtStatus.ACCESS_DENIED)
    if not authentication.acceptor.session_key:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    derived = keys.derive(
        session.dialect,
        authentication.acceptor.session_key,
        authentication.preauth.value,
        connection.cipher_id,
    )
    signer = signer_for(connection.signing_algorithm, derived.signing)
    connection.bind(Binding(session, connection, signer))
    call.signer = signer


def _end_previous(call: Call, previous_id: int, user: User) -> None:
    """[MS-SMB2] 3.3.5.5.3: the session that the same user had before a reconnect ends first."""
    service = call.connection.service
    previous = service.sessions.get(previous_id)
    if previous is not None and previous.owner == user and previous_id != call.header.session_id:
        service.end_session(previous)


def _abandon(connection: Connection, authentication: Authentication) -> None:
    """Drop what was half built. A session ends with it, unless only a binding failed."""
    session = authentication.session
    connection.authentications.pop(session.id, None)
    if not authentication.binding:
        connection.service.end_session(session)
