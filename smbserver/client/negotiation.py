"""What a client offers in NEGOTIATE, and what it makes of the answer ([MS-SMB2] 3.2.4.2.2, 3.2.5.2)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from smbserver.client.options import Options
from smbserver.signing import algorithm_for
from smbserver.wire.bounds import Malformed
from smbserver.wire.negotiate import (
    Capabilities,
    Dialect,
    NegotiateRequest,
    NegotiateResponse,
    find_context,
)
from smbserver.wire.negotiate_contexts import (
    EncryptionCapabilities,
    EncryptionCipher,
    NegotiateContext,
    PreauthIntegrityCapabilities,
    SigningAlgorithm,
    SigningCapabilities,
)

SALT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What client and server agreed on for one connection."""

    dialect: int
    security_mode: int
    capabilities: int
    server_guid: bytes
    max_transact_size: int
    max_read_size: int
    max_write_size: int
    signing_algorithm: SigningAlgorithm
    cipher: int
    """An EncryptionCipher; 0 if nothing can be sealed."""
    security_buffer: bytes


def offer(options: Options) -> NegotiateRequest:
    contexts: list[NegotiateContext] = []
    if Dialect.SMB_3_1_1 in options.dialects:
        contexts.append(PreauthIntegrityCapabilities(salt=secrets.token_bytes(SALT_BYTES)))
        if options.ciphers:
            contexts.append(EncryptionCapabilities(options.ciphers))
        if options.signing_algorithms:
            contexts.append(SigningCapabilities(options.signing_algorithms))
    guid = options.client_guid if max(options.dialects) > Dialect.SMB_2_0_2 else bytes(16)
    return NegotiateRequest(
        options.dialects, options.security_mode, options.capabilities, guid, tuple(contexts)
    )


def accept(options: Options, response: NegotiateResponse) -> Negotiated:
    dialect = response.dialect_revision
    if dialect not in options.dialects:
        raise Malformed(f"the server chose dialect 0x{dialect:04x}, which was not offered")
    signing, cipher = None, 0
    if dialect == Dialect.SMB_3_1_1:
        signing, cipher = _accept_contexts(options, response)
    elif dialect >= Dialect.SMB_3_0 and response.capabilities & Capabilities.ENCRYPTION:
        cipher = EncryptionCipher.AES_128_CCM
    return Negotiated(
        dialect,
        response.security_mode,
        response.capabilities,
        response.server_guid,
        response.max_transact_size,
        response.max_read_size,
        response.max_write_size,
        algorithm_for(dialect, signing),
        cipher,
        bytes(response.security_buffer),
    )


def _accept_contexts(options: Options, response: NegotiateResponse) -> tuple[int | None, int]:
    contexts = response.negotiate_contexts
    if find_context(contexts, PreauthIntegrityCapabilities) is None:
        raise Malformed("the server chose 3.1.1 without PREAUTH_INTEGRITY_CAPABILITIES")
    signing = find_context(contexts, SigningCapabilities)
    algorithm = _only(signing.signing_algorithms, options.signing_algorithms) if signing else None
    encryption = find_context(contexts, EncryptionCapabilities)
    offered = (*options.ciphers, EncryptionCipher.NONE)
    return algorithm, _only(encryption.ciphers, offered) if encryption else 0


def _only(chosen: tuple[int, ...], offered: tuple[int, ...]) -> int:
    if len(chosen) != 1 or chosen[0] not in offered:
        raise Malformed(f"the server chose {chosen} of {offered}")
    return chosen[0]
