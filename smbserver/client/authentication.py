"""NTLM, raw or inside SPNEGO, by pyspnego ([MS-SMB2] 3.2.4.2.3)."""

from __future__ import annotations

import spnego
from spnego import ContextReq, NTLMHash

from smbserver.auth.passdb import nt_hash


class Authentication:
    """One authentication: tokens out, tokens in, and at the end a session key."""

    def __init__(self, user: str, password: str, host: str, *, in_spnego: bool) -> None:
        # A hash is good for NTLM alone: with a password pyspnego tries Kerberos first where it is installed, and
        # waits for name servers.
        self._context = spnego.client(
            NTLMHash(user, nt_hash=nt_hash(password).hex()),
            hostname=host,
            service="cifs",
            context_req=ContextReq.default,
            protocol="negotiate" if in_spnego else "ntlm",
        )

    def step(self, token: bytes | None) -> bytes:
        """The next token for the server; empty if there is nothing more to say."""
        return self._context.step(token) or b""

    @property
    def complete(self) -> bool:
        return self._context.complete

    @property
    def session_key(self) -> bytes:
        return self._context.session_key
