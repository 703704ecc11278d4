"""From the key of an authentication to the keys of a session or channel ([MS-SMB2] 3.1.4.2)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from smbserver.wire.negotiate import Dialect
from smbserver.wire.negotiate_contexts import EncryptionCipher

KEY_BYTES = 16
"""Session.SessionKey and every key but those of AES-256 ([MS-SMB2] 3.3.1.8)."""

_AES_256_KEY_BYTES = 32
_AES_256 = frozenset({EncryptionCipher.AES_256_CCM, EncryptionCipher.AES_256_GCM})


@dataclass(frozen=True, slots=True)
class Keys:
    """What one authentication yields. A bound channel uses only its signing key."""

    signing: bytes = field(repr=False)
    application: bytes = field(repr=False)
    client_to_server: bytes = field(default=b"", repr=False)
    """Seals what the client sends; none in the 2.x dialects."""
    server_to_client: bytes = field(default=b"", repr=False)
    """Seals what the server sends; none in the 2.x dialects."""


def derive(dialect: int, session_key: bytes, preauth_hash: bytes = b"", cipher: int = 0) -> Keys:
    """All keys of an authentication ([MS-SMB2] 3.3.5.5.3).

    `preauth_hash` counts in dialect 3.1.1 only, `cipher` decides how long the sealing keys are.
    """
    short = session_key[:KEY_BYTES].ljust(KEY_BYTES, b"\0")
    if dialect < Dialect.SMB_3_0:
        return Keys(short, short)
    if dialect < Dialect.SMB_3_1_1:
        return Keys(
            kdf(short, b"SMB2AESCMAC\0", b"SmbSign\0"),
            kdf(short, b"SMB2APP\0", b"SmbRpc\0"),
            kdf(short, b"SMB2AESCCM\0", b"ServerIn \0"),
            kdf(short, b"SMB2AESCCM\0", b"ServerOut\0"),
        )
    sealing, length = (
        (session_key, _AES_256_KEY_BYTES) if cipher in _AES_256 else (short, KEY_BYTES)
    )
    return Keys(
        kdf(short, b"SMBSigningKey\0", preauth_hash),
        kdf(short, b"SMBAppKey\0", preauth_hash),
        kdf(sealing, b"SMBC2SCipherKey\0", preauth_hash, length),
        kdf(sealing, b"SMBS2CCipherKey\0", preauth_hash, length),
    )


def kdf(key: bytes, label: bytes, context: bytes, length: int = KEY_BYTES) -> bytes:
    """SP 800-108 section 5.1 in counter mode, HMAC-SHA256, r = 32; one round gives all 32 bytes."""
    fixed = label + b"\0" + context + (length * 8).to_bytes(4, "big")
    return hmac.digest(key, b"\0\0\0\1" + fixed, "sha256")[:length]
