"""Signatures of SMB2 messages ([MS-SMB2] 3.1.4.1, 3.1.5.1).

A signature covers one message of a compound with its padding, the 16 bytes of the signature itself
taken as zero.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Iterable
from struct import Struct
from typing import Any, ClassVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from smbserver.wire.bounds import HEADER_SIZE, Buffer
from smbserver.wire.header import SIGNATURE_OFFSET, Command, HeaderFlags
from smbserver.wire.negotiate import Dialect
from smbserver.wire.negotiate_contexts import SigningAlgorithm

SIGNATURE_BYTES = 16

_NO_SIGNATURE = bytes(SIGNATURE_BYTES)
_NONCE_FIELDS = Struct("<12xH2xI4xQ")
_NONCE = Struct("<QI")
_NONCE_SERVER = 1
_NONCE_CANCEL = 2


class Signer(ABC):
    """Signs and verifies with one key."""

    __slots__ = ("key",)
    algorithm: ClassVar[SigningAlgorithm]

    def __init__(self, key: bytes) -> None:
        self.key = key

    @abstractmethod
    def sign(self, parts: Iterable[Buffer]) -> bytes:
        """The signature of a message; the first part begins with its header, signature zero."""

    def verify(self, message: Buffer) -> bool:
        """Whether the message carries the right signature."""
        view = memoryview(message)
        ours = self.sign((bytes(view[:SIGNATURE_OFFSET]) + _NO_SIGNATURE, view[HEADER_SIZE:]))
        return hmac.compare_digest(ours, view[SIGNATURE_OFFSET:HEADER_SIZE])


class HmacSha256Signer(Signer):
    """HMAC-SHA256, its first 16 bytes: dialects 2.0.2 and 2.1, and 3.1.1 if agreed on."""

    __slots__ = ("_keyed",)
    algorithm = SigningAlgorithm.HMAC_SHA256

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self._keyed = hmac.new(key, digestmod="sha256")

    def sign(self, parts: Iterable[Buffer]) -> bytes:
        mac = self._keyed.copy()
        for part in parts:
            mac.update(part)
        return mac.digest()[:SIGNATURE_BYTES]


class AesCmacSigner(Signer):
    """AES-128-CMAC (RFC 4493): the 3.x dialects."""

    __slots__ = ("_keyed",)
    algorithm = SigningAlgorithm.AES_CMAC

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self._keyed = CMAC(AES(key))

    def sign(self, parts: Iterable[Buffer]) -> bytes:
        mac: Any = self._keyed.copy()
        for part in parts:
            mac.update(bytes(part))  # cryptography before 42 takes nothing else
        signature: bytes = mac.finalize()
        return signature


class AesGmacSigner(Signer):
    """AES-128-GMAC: 3.1.1 if agreed on. The nonce is made of what the header says."""

    __slots__ = ("_gcm",)
    algorithm = SigningAlgorithm.AES_GMAC

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self._gcm = AESGCM(key)

    def sign(self, parts: Iterable[Buffer]) -> bytes:
        message = b"".join(parts)
        command, flags, message_id = _NONCE_FIELDS.unpack_from(message)
        low = _NONCE_SERVER if flags & HeaderFlags.SERVER_TO_REDIR.value else 0
        if command == Command.CANCEL:
            low |= _NONCE_CANCEL
        return self._gcm.encrypt(_NONCE.pack(message_id, low), b"", message)


_SIGNERS: dict[int, type[HmacSha256Signer] | type[AesCmacSigner] | type[AesGmacSigner]] = {
    signer.algorithm: signer for signer in (HmacSha256Signer, AesCmacSigner, AesGmacSigner)
}


def signer_for(algorithm: int, key: bytes) -> Signer:
    """The signer of a `SigningAlgorithm`."""
    return _SIGNERS[algorithm](key)


def algorithm_for(dialect: int, negotiated: int | None = None) -> SigningAlgorithm:
    """What a dialect signs with; `negotiated` is the answer in SIGNING_CAPABILITIES, 3.1.1 only."""
    if dialect < Dialect.SMB_3_0:
        return SigningAlgorithm.HMAC_SHA256
    if dialect < Dialect.SMB_3_1_1 or negotiated is None:
        return SigningAlgorithm.AES_CMAC
    return SigningAlgorithm(negotiated)
