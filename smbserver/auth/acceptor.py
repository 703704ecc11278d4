"""The server's end of an authentication: SPNEGO or raw NTLMSSP through pyspnego, accounts from our `Passdb`.

pyspnego finds the credentials of a client in a file that NTLM_USER_FILE names. Ours is a memfd: nothing of it is on
disk, and it holds one line only, that of the account which the client names in the message about to be checked.
"""

from __future__ import annotations

import functools
import logging
import os
import struct
from typing import TYPE_CHECKING

import spnego
from spnego.exceptions import NegotiateOptions

from smbserver.session import User
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.auth.passdb import Account, Passdb

log = logging.getLogger(__name__)

MAX_TOKEN = 65535
"""Bytes of one security blob; its length field has 16 bits."""

MAX_LEGS = 8
"""Messages of one authentication; NTLM has two, SPNEGO at most one or two more."""

SESSION_KEY_SIZE = 16
"""Bytes of Session.SessionKey that are used ([MS-SMB2] 3.3.5.5.3)."""

_AUTHENTICATE = b"NTLMSSP\0\x03\0\0\0"
_FIELD = struct.Struct("<HHI")
_DOMAIN, _USER, _FLAGS = 28, 36, 60
_UNICODE = 0x00000001
_LEAST_AUTHENTICATE = 64

ACCEPT_COMPLETED = bytes.fromhex("a1073005a0030a0100")
"""NegTokenResp (RFC 4178 section 4.2.2) with negState accept-completed and nothing else."""

_STRICT = "5"
"""LM_COMPAT_LEVEL: NTLMv2 only; LM and NTLMv1 responses can be cracked within hours."""


class Acceptor:
    """One authentication. `step` until `user` is set."""

    def __init__(self, passdb: Passdb, guest: str | None = None) -> None:
        self._passdb = passdb
        self._guest = guest
        """The name that unknown users get; None: they are refused."""
        self._legs = 0
        self._context = _context()
        self.user: User | None = None
        self.session_key = b""

    def step(self, token: bytes) -> bytes:
        """Answer one token. Whatever is wrong with it becomes a `StatusError`."""
        self._legs += 1
        if self._legs > MAX_LEGS:
            raise StatusError(NtStatus.LOGON_FAILURE)
        try:
            return self._step(token)
        except StatusError:
            raise
        except Exception as error:
            # pyspnego is strict by exceptions of many types (struct.error, UnicodeError, IndexError, ...).
            log.info("authentication failed: %s", error)
            status = NtStatus.LOGON_FAILURE if self._named(token) else NtStatus.INVALID_PARAMETER
            raise StatusError(status) from error

    def _step(self, token: bytes) -> bytes:
        named = self._named(token)
        account = self._account(named) if named else None
        if named and account is None and self._guest is not None and self._passdb.find(named[1]) is None:
            self.user = User(self._guest, os.geteuid(), guest=True)
            return b"" if token.startswith(b"NTLMSSP\0") else ACCEPT_COMPLETED
        with _Credentials(named, account):
            answer = self._context.step(token) or b""
        if self._context.complete:
            self._complete(account)
        return answer

    def _complete(self, account: Account | None) -> None:
        if account is None:
            raise StatusError(NtStatus.LOGON_FAILURE)
        if account.disabled:
            # Only who knows the password learns that the account is switched off.
            raise StatusError(NtStatus.ACCOUNT_DISABLED)
        key = self._context.session_key
        if len(key) < SESSION_KEY_SIZE:
            raise StatusError(NtStatus.LOGON_FAILURE)
        self.user = User(account.name, account.uid)
        self.session_key = key

    def _account(self, named: tuple[str, str]) -> Account | None:
        domain, user = named
        if not user or any(character in domain + user for character in ":\n\r\\\0"):
            return None
        account = self._passdb.find(user)
        return account if account and account.nt_hash else None

    @staticmethod
    def _named(token: bytes) -> tuple[str, str] | None:
        """Domain and user of the AUTHENTICATE_MESSAGE ([MS-NLMP] 2.2.1.3) in a token, if there is one."""
        start = token.find(_AUTHENTICATE)
        message = token[start:] if start >= 0 else b""
        if len(message) < _LEAST_AUTHENTICATE:
            return None
        (flags,) = struct.unpack_from("<I", message, _FLAGS)
        encoding = "utf-16-le" if flags & _UNICODE else "cp437"
        words = []
        for field in (_DOMAIN, _USER):
            length, _, offset = _FIELD.unpack_from(message, field)
            words.append(message[offset : offset + length].decode(encoding, "replace"))
        return words[0], words[1]


def initial_token() -> bytes:
    """NegTokenInit2 for the NEGOTIATE response: the mechanisms that we accept ([MS-SPNG] 2.2.1)."""
    return _initial_token()


@functools.cache
def _initial_token() -> bytes:
    return _context().step() or b""


def _context() -> spnego.ContextProxy:
    _credential_file()
    options = NegotiateOptions.use_negotiate | NegotiateOptions.use_ntlm
    return spnego.server(protocol="negotiate", options=options)


@functools.cache
def _credential_file() -> int:
    """The memfd that pyspnego reads; it belongs to the process."""
    descriptor = os.memfd_create("ntlm-credentials", os.MFD_CLOEXEC)
    os.environ["NTLM_USER_FILE"] = f"/proc/self/fd/{descriptor}"
    os.environ["LM_COMPAT_LEVEL"] = _STRICT
    return descriptor


class _Credentials:
    """Puts one account into the credential file while pyspnego looks. One step is one call: nobody else looks."""

    def __init__(self, named: tuple[str, str] | None, account: Account | None) -> None:
        self._line = b""
        if named and account and account.nt_hash:
            domain, user = named
            name = f"{domain}\\{user}" if domain else user
            self._line = f"{name}:0:{'0' * 32}:{account.nt_hash.hex()}:[U]:LCT-0".encode()

    def __enter__(self) -> None:
        descriptor = _credential_file()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, self._line, 0)

    def __exit__(self, *_: object) -> None:
        os.ftruncate(_credential_file(), 0)
