"""Preauthentication integrity: what was said before there were keys ([MS-SMB2] 3.1.1.1, 3.3.5.4)."""

from __future__ import annotations

from hashlib import sha512

from smbserver.wire.bounds import Buffer


class PreauthHash:
    """A running SHA-512 over whole SMB2 messages, without the framing of the transport.

    A connection's hash takes the NEGOTIATE messages. Each authentication goes on with a copy of it
    and takes every SESSION_SETUP message but the last response, before its keys are derived.
    """

    __slots__ = ("value",)

    def __init__(self, value: bytes = bytes(64)) -> None:
        self.value = value

    def update(self, *parts: Buffer) -> None:
        """Takes one message, given as a whole or in parts."""
        digest = sha512(self.value)
        for part in parts:
            digest.update(part)
        self.value = digest.digest()

    def copy(self) -> PreauthHash:
        return PreauthHash(self.value)
