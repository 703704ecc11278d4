"""The NTLM acceptor: pyspnego's, with the check of the AUTHENTICATE_MESSAGE done here ([MS-NLMP] 3.2.5.1.2).

pyspnego reads accounts from a file that an environment variable names, and compares the client's response with one that
it builds itself of the parsed target information, which fails for clients that pack it differently (smbclient). The
specification takes the bytes as they came.
"""

from __future__ import annotations

import hmac
import os
import struct
from typing import TYPE_CHECKING

from spnego._context import ContextReq
from spnego._ntlm import NTLMProxy
from spnego._ntlm_raw.crypto import hmac_md5, ntowfv2, rc4k
from spnego._ntlm_raw.messages import (
    Authenticate,
    AvFlags,
    AvId,
    NegotiateFlags,
)
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import BadMICError, NegotiateOptions

from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.auth.passdb import Account, Passdb

PROOF_SIZE = 16
"""Bytes of NTProofStr, with which an NTLMv2 response begins."""

LONGEST_OLD_RESPONSE = 24
"""Bytes of an NTLMv1 response; those can be cracked within hours and are refused."""

KEY_SIZE = 16
"""Bytes of every NTLM key."""

_PAIRS_AT = PROOF_SIZE + 28
"""Where the AV_PAIRs of an NTLMv2 response begin ([MS-NLMP] 2.2.2.7)."""
_PAIR = struct.Struct("<HH")
_FLAGS = struct.Struct("<I")


class UnknownUser(Exception):
    """The client names somebody who has no account."""


class NtlmAcceptor(NTLMProxy):
    """One authentication against the accounts of a `Passdb`."""

    def __init__(self, passdb: Passdb) -> None:
        # Asked for before an acceptor is made, and never read by this one.
        os.environ.setdefault("NTLM_USER_FILE", __file__)
        super().__init__(
            context_req=ContextReq.default,
            usage="accept",
            protocol="ntlm",
            options=NegotiateOptions.use_ntlm,
        )
        self._passdb = passdb
        self._mic_expected = False
        self.account: Account | None = None
        """Who it is, once the response was right."""
        self.anonymous = False
        """It is nobody in particular, and says so."""

    def _step_accept_authenticate(
        self, token: bytes, channel_bindings: GssChannelBindings | None
    ) -> None:
        message = Authenticate.unpack(token)
        account = None if _is_anonymous(message) else self._find(message)
        # [MS-NLMP] 3.3.2: the SessionBaseKey of nobody is zeros.
        base_key = self._check_response(message, account) if account else bytes(KEY_SIZE)
        flags = NegotiateFlags(message.flags)
        if flags & NegotiateFlags.key_exch and flags & (NegotiateFlags.sign | NegotiateFlags.seal):
            encrypted = message.encrypted_random_session_key or b""
            if len(encrypted) != KEY_SIZE:
                raise StatusError(NtStatus.LOGON_FAILURE)
            self._session_key = rc4k(base_key, encrypted)
        else:
            self._session_key = base_key
        self._check_mic(message)
        if account is not None and account.disabled:
            # Only who knows the password learns that the account is switched off.
            raise StatusError(NtStatus.ACCOUNT_DISABLED)
        self._context_attr = flags
        self._complete = True
        self.account, self.anonymous = account, account is None

    def verify(self, data: bytes, mic: bytes) -> int:
        """A mechListMIC (RFC 4178 section 5). Nobody's proves nothing, since everybody knows the key.

        It is calculated all the same: the key stream of the answer goes on behind it.
        """
        try:
            return super().verify(data, mic)
        except BadMICError:
            if not self.anonymous:
                raise
        return 0

    @property
    def _requires_mech_list_mic(self) -> bool:
        """Only who protects his AUTHENTICATE_MESSAGE protects the list of mechanisms unasked: nobody does not."""
        return self._complete and self._mic_expected

    def _reset_ntlm_crypto_state(self, outgoing: bool = True) -> None:
        """Without extended session security, as anonymous clients have it, both directions share a stream."""
        if self._context_attr & NegotiateFlags.extended_session_security:
            super()._reset_ntlm_crypto_state(outgoing)

    def _find(self, message: Authenticate) -> Account:
        name = message.user_name or ""
        account = self._passdb.find(name)
        if account is None:
            raise UnknownUser(name)
        return account

    def _check_response(self, message: Authenticate, account: Account) -> bytes:
        """SessionBaseKey, if NTProofStr is right ([MS-NLMP] 3.3.2)."""
        response = message.nt_challenge_response or b""
        if account.nt_hash is None or len(response) <= LONGEST_OLD_RESPONSE:
            raise StatusError(NtStatus.LOGON_FAILURE)
        av_flags = _av_flags(response)
        challenge = self._temp_challenge
        assert challenge is not None
        key = ntowfv2(message.user_name or "", account.nt_hash, message.domain_name)
        proof = hmac_md5(key, (challenge.server_challenge or b"") + response[PROOF_SIZE:])
        if not hmac.compare_digest(proof, response[:PROOF_SIZE]):
            raise StatusError(NtStatus.LOGON_FAILURE)
        self._mic_expected = bool(av_flags & AvFlags.mic)
        return hmac_md5(key, proof)

    def _check_mic(self, message: Authenticate) -> None:
        """The client says in its target information whether there is one."""
        if not self._mic_expected:
            return
        assert self._temp_negotiate is not None
        assert self._temp_challenge is not None
        claimed = message.mic or b""
        message.mic = bytes(KEY_SIZE)
        mic = self._calculate_mic(
            self.session_key,
            self._temp_negotiate.pack(),
            self._temp_challenge.pack(),
            message.pack(),
        )
        if not hmac.compare_digest(mic, claimed):
            raise StatusError(NtStatus.LOGON_FAILURE)


def _is_anonymous(message: Authenticate) -> bool:
    """[MS-NLMP] 3.2.5.1.2: neither a name nor a response, or one zero for it."""
    response = message.lm_challenge_response or b"\0"
    return not (message.user_name or message.nt_challenge_response) and response == b"\0"


def _av_flags(response: bytes) -> int:
    """MsvAvFlags of the AV_PAIRs of an NTLMv2 response, a list that must be whole ([MS-NLMP] 2.2.2.1)."""
    at, flags = _PAIRS_AT, 0
    try:
        while True:
            kind, length = _PAIR.unpack_from(response, at)
            if kind == AvId.eol:
                return flags
            if kind == AvId.flags:
                (flags,) = _FLAGS.unpack_from(response, at + _PAIR.size)
            at += _PAIR.size + length
    except struct.error as error:
        words = "the target information cannot be read"
        raise StatusError(NtStatus.INVALID_PARAMETER, words=words) from error
