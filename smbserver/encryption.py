"""Sealed messages: TRANSFORM_HEADER and ciphertext ([MS-SMB2] 3.1.4.3, 3.1.5.2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import count
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import ciphers
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from smbserver.wire import transform
from smbserver.wire.bounds import Buffer, Malformed
from smbserver.wire.negotiate_contexts import EncryptionCipher
from smbserver.wire.transform import TransformHeader

TAG_BYTES = 16

_NO_SIGNATURE = bytes(TAG_BYTES)
_NONCE_FIELD_BYTES = 16
_GCM_NONCE_BYTES = 12
_CCM_NONCE_BYTES = 11
_AES_BLOCK_BYTES = 16


class _Aead(ABC):
    """An algorithm with one key for each direction."""

    nonce_bytes: int

    @abstractmethod
    def seal(
        self, nonce: bytes, authenticated: bytes, parts: Sequence[Buffer], out: memoryview
    ) -> bytes:
        """Puts the ciphertext of the parts into `out` and gives back the tag."""

    @abstractmethod
    def open(self, nonce: bytes, authenticated: Buffer, sealed: Buffer, tag: bytes) -> bytes:
        """The plaintext; InvalidTag if the message is not what was sealed."""


class _Gcm(_Aead):
    nonce_bytes = _GCM_NONCE_BYTES

    def __init__(self, sealing_key: bytes, opening_key: bytes) -> None:
        self._sealing, self._opening = AES(sealing_key), AES(opening_key)

    def seal(
        self, nonce: bytes, authenticated: bytes, parts: Sequence[Buffer], out: memoryview
    ) -> bytes:
        encryptor: Any = ciphers.Cipher(self._sealing, GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(authenticated)
        position = 0
        for part in parts:
            position += encryptor.update_into(part, out[position:])
        encryptor.finalize()
        tag: bytes = encryptor.tag
        return tag

    def open(self, nonce: bytes, authenticated: Buffer, sealed: Buffer, tag: bytes) -> bytes:
        decryptor: Any = ciphers.Cipher(self._opening, GCM(nonce, tag)).decryptor()
        decryptor.authenticate_additional_data(authenticated)
        plain: bytes = decryptor.update(sealed)
        decryptor.finalize()
        return plain


class _Ccm(_Aead):
    """CCM must know the length first, so the parts are joined."""

    nonce_bytes = _CCM_NONCE_BYTES

    def __init__(self, sealing_key: bytes, opening_key: bytes) -> None:
        self._sealing, self._opening = AESCCM(sealing_key), AESCCM(opening_key)

    def seal(
        self, nonce: bytes, authenticated: bytes, parts: Sequence[Buffer], out: memoryview
    ) -> bytes:
        sealed = memoryview(self._sealing.encrypt(nonce, b"".join(parts), authenticated))
        out[: len(sealed) - TAG_BYTES] = sealed[:-TAG_BYTES]
        return bytes(sealed[-TAG_BYTES:])

    def open(self, nonce: bytes, authenticated: Buffer, sealed: Buffer, tag: bytes) -> bytes:
        return self._opening.decrypt(nonce, b"".join((sealed, tag)), bytes(authenticated))


_AEADS: dict[int, type[_Gcm] | type[_Ccm]] = {
    EncryptionCipher.AES_128_CCM: _Ccm,
    EncryptionCipher.AES_128_GCM: _Gcm,
    EncryptionCipher.AES_256_CCM: _Ccm,
    EncryptionCipher.AES_256_GCM: _Gcm,
}


class Cipher:
    """Seals and opens the messages of one session, on all its channels.

    A nonce must never come twice with one key, so a session has one Cipher, however many channels.
    """

    def __init__(self, cipher: int, sealing_key: bytes, opening_key: bytes) -> None:
        """`cipher` is an EncryptionCipher; keys for what is sent and for what is received."""
        self._aead: _Aead = _AEADS[cipher](sealing_key, opening_key)
        self._nonces = count(1)

    def seal(self, session_id: int, parts: Sequence[Buffer]) -> memoryview:
        """The whole sealed message, header included, of one message or compound given in parts."""
        size = sum(len(part) for part in parts)
        nonce = next(self._nonces).to_bytes(self._aead.nonce_bytes, "little")
        field = nonce.ljust(_NONCE_FIELD_BYTES, b"\0")
        header = TransformHeader(_NO_SIGNATURE, field, size, session_id).pack()
        authenticated = header[transform.AUTHENTICATED_OFFSET :]
        # update_into wants room for one block more than it writes.
        message = memoryview(bytearray(transform.SIZE + size + _AES_BLOCK_BYTES))
        tag = self._aead.seal(nonce, authenticated, parts, message[transform.SIZE :])
        message[: transform.SIZE] = header[:4] + tag + authenticated
        return message[: transform.SIZE + size]

    def open(self, message: Buffer) -> memoryview:
        """What was sealed; Malformed if it was not sealed with this session's key."""
        header = TransformHeader.parse(message)
        view = memoryview(message)
        sealed = view[transform.SIZE :]
        if header.original_message_size != len(sealed) or header.flags != transform.ENCRYPTED:
            raise Malformed(
                f"TRANSFORM_HEADER with flags {header.flags} and OriginalMessageSize "
                f"{header.original_message_size}, {len(sealed)} bytes follow"
            )
        nonce = header.nonce[: self._aead.nonce_bytes]
        authenticated = view[transform.AUTHENTICATED_OFFSET : transform.SIZE]
        try:
            plain = self._aead.open(nonce, authenticated, sealed, header.signature)
        except InvalidTag:
            raise Malformed("a sealed message that does not authenticate") from None
        return memoryview(plain)
