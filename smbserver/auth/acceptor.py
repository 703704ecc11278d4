"""The server's end of an authentication: SPNEGO, or NTLMSSP without it, as the client begins."""

from __future__ import annotations

import functools
import logging

from spnego._context import GSSMech
from spnego._negotiate import NegotiateProxy
from spnego._spnego import NegTokenInit

from smbserver.auth.ntlm import NtlmAcceptor, UnknownUser
from smbserver.auth.passdb import Passdb
from smbserver.identity import user_id
from smbserver.session import User
from smbserver.wire.status import NtStatus, StatusError

log = logging.getLogger(__name__)

MAX_LEGS = 8
"""Messages of one authentication; NTLM has two, SPNEGO at most one or two more."""

ACCEPT_COMPLETED = bytes.fromhex("a1073005a0030a0100")
"""NegTokenResp (RFC 4178 section 4.2.2) with negState accept-completed and nothing else."""


class Acceptor:
    """One authentication. `step` until `user` is set."""

    def __init__(self, passdb: Passdb, guest_account: str, *, map_to_guest: bool = False) -> None:
        """`guest_account`: as whom unknown users count, with `map_to_guest`, and anonymous ones."""
        self._guest_account = guest_account
        self._map_to_guest = map_to_guest
        self._legs = 0
        self._ntlm = NtlmAcceptor(passdb)
        self._context = _spnego(self._ntlm)
        self.user: User | None = None
        self.session_key = b""

    def step(self, token: bytes) -> bytes:
        """Answer one token. Whatever is wrong with it becomes a `StatusError`."""
        self._legs += 1
        if self._legs > MAX_LEGS:
            raise StatusError(NtStatus.LOGON_FAILURE)
        try:
            answer = self._context.step(token) or b""
        except StatusError as error:
            log.info("authentication failed: %s", error)
            raise
        except UnknownUser as error:
            return self._admit_guest(token, str(error))
        except Exception as error:
            # pyspnego is strict by exceptions of many types (struct.error, UnicodeError, IndexError, ...).
            log.info("authentication failed: %s", error)
            first = self._legs == 1
            status = NtStatus.INVALID_PARAMETER if first else NtStatus.LOGON_FAILURE
            raise StatusError(status) from error
        if self._context.complete:
            self.user = self._authenticated()
            self.session_key = self._ntlm.session_key
        elif not answer:
            raise StatusError(NtStatus.LOGON_FAILURE)
        return answer

    def _authenticated(self) -> User:
        account = self._ntlm.account
        if account is None:
            return User(self._guest_account, user_id(self._guest_account), anonymous=True)
        return User(account.name, account.uid)

    def _admit_guest(self, token: bytes, name: str) -> bytes:
        if not self._map_to_guest:
            log.info("authentication failed: %r has no account", name)
            raise StatusError(NtStatus.LOGON_FAILURE)
        self.user = User(self._guest_account, user_id(self._guest_account), guest=True)
        return b"" if token.startswith(b"NTLMSSP\0") else ACCEPT_COMPLETED


def _spnego(ntlm: NtlmAcceptor) -> NegotiateProxy:
    ntlm._is_wrapped = True  # the tokens are logged, if at all, by the envelope
    return NegotiateProxy(usage="accept", _negotiate_contexts={GSSMech.ntlm: ntlm})


@functools.cache
def initial_token() -> bytes:
    """For the NEGOTIATE response: the mechanisms that we accept (RFC 4178 section 4.2.1).

    Without the negHints of [MS-SPNG] 2.2.1: they are optional, everybody ignores them, and Wireshark takes
    them for a malformed mechListMIC wherever SMB does not come from port 445.
    """
    return NegTokenInit([GSSMech.ntlm.value]).pack()
