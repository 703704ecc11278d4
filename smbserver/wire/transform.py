"""The header of an encrypted message ([MS-SMB2] 2.2.41)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from smbserver.wire.bounds import Buffer, Malformed

PROTOCOL_ID = b"\xfdSMB"

SIZE = 52
"""Bytes of the header."""

ENCRYPTED = 0x0001
"""Flags in 3.1.1, EncryptionAlgorithm AES-128-CCM in 3.0 and 3.0.2: one number, one place."""

AUTHENTICATED_OFFSET = 20
"""The authenticated data begins at the Nonce and ends with the header."""

_LAYOUT = Struct("<4s16s16sIHHQ")


@dataclass(frozen=True, slots=True)
class TransformHeader:
    """SMB2 TRANSFORM_HEADER ([MS-SMB2] 2.2.41)."""

    signature: bytes
    nonce: bytes
    """16 bytes, of which CCM uses 11 and GCM 12."""
    original_message_size: int
    session_id: int
    flags: int = ENCRYPTED

    @classmethod
    def parse(cls, message: Buffer) -> TransformHeader:
        if len(message) < SIZE:
            raise Malformed(f"a message of {len(message)} bytes has no room for TRANSFORM_HEADER")
        protocol, signature, nonce, size, _, flags, session_id = _LAYOUT.unpack_from(message)
        if protocol != PROTOCOL_ID:
            raise Malformed(f"not a TRANSFORM_HEADER: {protocol!r}")
        return cls(signature, nonce, size, session_id, flags)

    def pack(self) -> bytes:
        return _LAYOUT.pack(
            PROTOCOL_ID,
            self.signature,
            self.nonce,
            self.original_message_size,
            0,
            self.flags,
            self.session_id,
        )
