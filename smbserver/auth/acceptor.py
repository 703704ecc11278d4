"""The server's end of an authentication: Kerberos or NTLM, inside SPNEGO or without it, as the client begins."""

from __future__ import annotations

import functools
import logging
import math
import time

from spnego._context import ContextProxy, GSSMech
from spnego._negotiate import NegotiateProxy
from spnego._spnego import NegTokenInit, unpack_token

from smbserver.auth.kerberos import OIDS, Kerberos
from smbserver.auth.ntlm import NtlmAcceptor, UnknownUser
from smbserver.auth.passdb import Passdb
from smbserver.identity import user_id
from smbserver.user import User
from smbserver.wire.status import NtStatus, StatusError

log = logging.getLogger(__name__)

MAX_LEGS = 8
"""Messages of one authentication; NTLM has two, SPNEGO at most one or two more."""

ACCEPT_COMPLETED = bytes.fromhex("a1073005a0030a0100")
"""NegTokenResp (RFC 4178 section 4.2.2) with negState accept-completed and nothing else."""


class Acceptor:
    """One authentication. `step` until `user` is set."""

    def __init__(
        self,
        passdb: Passdb,
        guest_account: str,
        *,
        map_to_guest: bool = False,
        kerberos: Kerberos | None = None,
    ) -> None:
        """`guest_account`: as whom unknown users count, with `map_to_guest`, and anonymous ones."""
        self._passdb = passdb
        self._guest_account = guest_account
        self._map_to_guest = map_to_guest
        self._legs = 0
        self._kerberos = kerberos
        self._ntlm = NtlmAcceptor(passdb)
        self._context: _Envelope | None = None
        """Made for the mechanism with which the client begins."""
        self.user: User | None = None
        self.session_key = b""
        self.ends = math.inf
        """Until when it proves who the user is: seconds since the epoch."""

    def step(self, token: bytes) -> bytes:
        """Answer one token. Whatever is wrong with it becomes a `StatusError`."""
        self._legs += 1
        if self._legs > MAX_LEGS:
            raise StatusError(NtStatus.LOGON_FAILURE)
        try:
            if self._context is None:
                self._context = self._begin(token)
            answer = self._context.step(token) or b""
            if self._context.complete:
                self.user = self._authenticated(self._context)
                self.session_key = self._context.session_key
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
        if self.user is None and not answer:
            raise StatusError(NtStatus.LOGON_FAILURE)
        return answer

    def _begin(self, token: bytes) -> _Envelope:
        if self._kerberos is not None and _begins_with_kerberos(token):
            return _Envelope(GSSMech.kerberos, self._kerberos.context())
        return _Envelope(GSSMech.ntlm, self._ntlm)

    def _authenticated(self, context: _Envelope) -> User:
        if context.negotiated_protocol == "kerberos":
            assert self._kerberos is not None
            self.ends = int(time.time()) + self._kerberos.lifetime(context.mechanism_context)
            return self._kerberos.user(context.client_principal or "", self._passdb)
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


class _Envelope(NegotiateProxy):
    """SPNEGO around one mechanism; pyspnego also prefers what is installed, and would ask for a MIC because of it."""

    def __init__(self, mechanism: GSSMech, context: ContextProxy) -> None:
        context._is_wrapped = True  # the tokens are logged, if at all, by the envelope
        super().__init__(usage="accept", _negotiate_contexts={mechanism: context})
        self.mechanism_context = context
        self._mechanism = mechanism

    def _preferred_mech_list(self) -> list[GSSMech]:
        return [self._mechanism]


def _begins_with_kerberos(token: bytes) -> bool:
    """Whether the token inside is for Kerberos: clients send one for the first mechanism that they name."""
    if token.startswith(b"NTLMSSP\0"):
        return False
    first = unpack_token(token)
    if isinstance(first, NegTokenInit):
        return bool(first.mech_types) and first.mech_types[0] in OIDS
    return True


@functools.cache
def initial_token(with_kerberos: bool = False) -> bytes:
    """For the NEGOTIATE response: the mechanisms that we accept (RFC 4178 section 4.2.1).

    Without the negHints of [MS-SPNG] 2.2.1: they are optional, everybody ignores them, and Wireshark takes
    them for a malformed mechListMIC wherever SMB does not come from port 445.
    """
    kerberos = list(OIDS) if with_kerberos else []
    return NegTokenInit([*kerberos, GSSMech.ntlm.value]).pack()
