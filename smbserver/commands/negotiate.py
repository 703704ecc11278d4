"""NEGOTIATE: dialect, capabilities and algorithms of a connection ([MS-SMB2] 3.3.5.3, 3.3.5.4).

What is chosen depends on the client's offer and the configuration alone, never on the transport: all channels of a
session must agree.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from smbserver.auth import acceptor
from smbserver.dispatch import Call, Reply
from smbserver.wire import filetime
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.negotiate import (
    Capabilities,
    Dialect,
    NegotiateRequest,
    NegotiateResponse,
    SecurityMode,
)
from smbserver.wire.negotiate_contexts import (
    EncryptionCapabilities,
    EncryptionCipher,
    HashAlgorithm,
    NegotiateContext,
    PreauthIntegrityCapabilities,
    SigningAlgorithm,
    SigningCapabilities,
)
from smbserver.wire.smb1 import SMB2_002, SMB2_WILDCARD, MultiProtocolNegotiate
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.config import Config
    from smbserver.connection import Connection
    from smbserver.parameters import General

DIALECTS = {
    "smb2_02": Dialect.SMB_2_0_2,
    "smb2_10": Dialect.SMB_2_1,
    "smb3_00": Dialect.SMB_3_0,
    "smb3_02": Dialect.SMB_3_0_2,
    "smb3_11": Dialect.SMB_3_1_1,
}

CIPHERS = (
    EncryptionCipher.AES_128_GCM,
    EncryptionCipher.AES_256_GCM,
    EncryptionCipher.AES_128_CCM,
    EncryptionCipher.AES_256_CCM,
)
"""In order of preference: GCM is several times faster, and Linux derives keys of its own for 256 bits."""

SMALL_IO = 65536
"""Bytes of one READ, WRITE or query in dialect 2.0.2, which has no CreditCharge."""

SALT_SIZE = 32
"""Bytes of salt for the hash; what Windows sends."""

_Context = TypeVar("_Context")


def serve(call: Call) -> Reply:
    """Choose, remember, answer."""
    request = NegotiateRequest.parse(call.message)
    dialect = choose_dialect(call.connection.service.config.general, request.dialects)
    contexts = _agree(call.connection, request, dialect)
    if dialect == Dialect.SMB_3_1_1:
        call.connection.preauth.update(call.message)
    return Reply(_response(call.connection, contexts).pack())


def serve_smb1(connection: Connection, message: memoryview) -> list[bytes]:
    """Answer a multi-protocol negotiate that leads to dialect 2.0.2 ([MS-SMB2] 3.3.5.3.2)."""
    offered = MultiProtocolNegotiate.parse(message).dialects
    general = connection.service.config.general
    if SMB2_WILDCARD in offered:
        return [wildcard_response(general, connection.service.server_guid)]
    if SMB2_002 not in offered:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    request = NegotiateRequest((Dialect.SMB_2_0_2,))
    _agree(connection, request, choose_dialect(general, request.dialects))
    return [_FIRST_RESPONSE, _response(connection, []).pack()]


def wildcard_response(general: General, server_guid: bytes) -> bytes:
    """The whole response that asks for an SMB2 NEGOTIATE ([MS-SMB2] 3.3.5.3.1)."""
    response = NegotiateResponse(
        Dialect.WILDCARD,
        security_mode(general),
        server_guid,
        Capabilities.LARGE_MTU,
        general.smb2_max_trans,
        general.smb2_max_read,
        general.smb2_max_write,
        filetime.now(),
        0,
        acceptor.initial_token(),
    )
    return _FIRST_RESPONSE + response.pack()


_FIRST_RESPONSE = Header(
    command=Command.NEGOTIATE, credits=1, flags=HeaderFlags.SERVER_TO_REDIR
).pack()


def choose_dialect(general: General, offered: Iterable[int]) -> Dialect:
    """The newest of the dialects that both sides speak."""
    oldest, newest = DIALECTS[general.server_min_protocol], DIALECTS[general.server_max_protocol]
    common = [one for one in DIALECTS.values() if one in offered and oldest <= one <= newest]
    if not offered:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not common:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    return max(common)


def security_mode(general: General) -> int:
    """SecurityMode of the server."""
    required = general.server_signing == "required"
    return SecurityMode.SIGNING_ENABLED | (SecurityMode.SIGNING_REQUIRED if required else 0)


def _agree(
    connection: Connection, request: NegotiateRequest, dialect: Dialect
) -> list[NegotiateContext]:
    """Set what was negotiated; the contexts of the response."""
    general = connection.service.config.general
    contexts: list[NegotiateContext] = []
    capabilities = _capabilities(connection.service.config, request.capabilities, dialect)
    cipher = EncryptionCipher.AES_128_CCM if capabilities & Capabilities.ENCRYPTION else 0
    signing = SigningAlgorithm.AES_CMAC
    if dialect < Dialect.SMB_3_0:
        signing = SigningAlgorithm.HMAC_SHA256
    elif dialect == Dialect.SMB_3_1_1:
        cipher, signing, contexts = _agree_contexts(request, general.server_smb_encrypt != "off")
    connection.dialect = dialect
    connection.client_guid = request.client_guid
    connection.client_capabilities = request.capabilities
    connection.client_security_mode = request.security_mode
    connection.client_dialects = request.dialects
    connection.capabilities = capabilities
    connection.security_mode = security_mode(general)
    connection.cipher_id = cipher
    connection.signing_algorithm = signing
    connection.counts_sequences = dialect >= Dialect.SMB_3_0
    connection.large_mtu = bool(capabilities & Capabilities.LARGE_MTU)
    small = not connection.large_mtu
    connection.max_transact_size = SMALL_IO if small else general.smb2_max_trans
    connection.max_read_size = SMALL_IO if small else general.smb2_max_read
    connection.max_write_size = SMALL_IO if small else general.smb2_max_write
    return contexts


def _capabilities(config: Config, client: int, dialect: Dialect) -> int:
    """Server capabilities; some are the answer to the client's own."""
    own = 0
    if dialect > Dialect.SMB_2_0_2:
        own |= Capabilities.LARGE_MTU
        if config.general.smb2_leases:
            own |= Capabilities.LEASING
    if dialect < Dialect.SMB_3_0:
        return own
    shared = 0
    if own & Capabilities.LEASING:
        own |= Capabilities.DIRECTORY_LEASING
    if config.general.server_multi_channel_support:
        shared |= Capabilities.MULTI_CHANNEL
    if any(share.continuous_availability for share in config.shares.values()):
        shared |= Capabilities.PERSISTENT_HANDLES
    if config.general.server_smb_encrypt != "off" and dialect < Dialect.SMB_3_1_1:
        shared |= Capabilities.ENCRYPTION  # in 3.1.1 the contexts tell
    return own | shared & client


def _agree_contexts(
    request: NegotiateRequest, may_encrypt: bool
) -> tuple[int, SigningAlgorithm, list[NegotiateContext]]:
    """Cipher, signing algorithm and contexts of the response ([MS-SMB2] 3.3.5.4)."""
    preauth = _single(request, PreauthIntegrityCapabilities)
    if preauth is None or not preauth.hash_algorithms:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if HashAlgorithm.SHA512 not in preauth.hash_algorithms:
        raise StatusError(NtStatus.SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP)
    hashes = (HashAlgorithm.SHA512,)
    contexts: list[NegotiateContext] = [PreauthIntegrityCapabilities(hashes, os.urandom(SALT_SIZE))]
    cipher = 0
    encryption = _single(request, EncryptionCapabilities)
    if encryption is not None:
        if not encryption.ciphers:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        if may_encrypt:
            cipher = next((int(one) for one in CIPHERS if one in encryption.ciphers), 0)
        contexts.append(EncryptionCapabilities((cipher,)))
    algorithm = SigningAlgorithm.AES_CMAC
    signing = _single(request, SigningCapabilities)
    if signing is not None:
        if not signing.signing_algorithms:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        known = [one for one in signing.signing_algorithms if one in set(SigningAlgorithm)]
        if known:
            algorithm = SigningAlgorithm(known[0])
            contexts.append(SigningCapabilities((algorithm,)))
    return cipher, algorithm, contexts


def _single(request: NegotiateRequest, kind: type[_Context]) -> _Context | None:
    """The context of a kind, which may be there once at most."""
    found = [one for one in request.negotiate_contexts if isinstance(one, kind)]
    if len(found) > 1:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    return found[0] if found else None


def _response(connection: Connection, contexts: list[NegotiateContext]) -> NegotiateResponse:
    assert connection.dialect is not None
    return NegotiateResponse(
        connection.dialect,
        connection.security_mode,
        connection.service.server_guid,
        connection.capabilities,
        connection.max_transact_size,
        connection.max_read_size,
        connection.max_write_size,
        filetime.now(),
        0,
        acceptor.initial_token(connection.service.kerberos is not None),
        tuple(contexts),
    )
