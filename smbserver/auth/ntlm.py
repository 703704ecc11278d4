"""The NTLM acceptor: pyspnego's, with the check of the AUTHENTICATE_MESSAGE done here ([MS-NLMP] 3.2.5.1.2).

pyspnego reads accounts from a file that an environment variable names, and compares the client's response with one that
it builds itself of the parsed target information, which fails for clients that pack it differently (smbclient). The
specification takes the bytes as they came.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING

from spnego._context import ContextReq
from spnego._ntlm import NTLMProxy
from spnego._ntlm_raw.crypto import hmac_md5, ntowfv2, rc4k
from spnego._ntlm_raw.messages import (
    Authenticate,
    AvFlags,
    AvId,
    NegotiateFlags,
    NTClientChallengeV2,
    TargetInfo,
)
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import NegotiateOptions

from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.auth.passdb import Account, Passdb

PROOF_SIZE = 16
"""Bytes of NTProofStr, with which an NTLMv2 response begins."""

LONGEST_OLD_RESPONSE = 24
"""Bytes of an NTLMv1 response; those can be cracked within hours and are refused."""

KEY_SIZE = 16
"""Bytes of every NTLM key."""


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

    def _step_accept_authenticate(
        self, token: bytes, channel_bindings: GssChannelBindings | None
    ) -> None:
        message = Authenticate.unpack(token)
        account = self._find(message)
        base_key = self._check_response(message, account)
        flags = NegotiateFlags(message.flags)
        if flags & NegotiateFlags.key_exch and flags & (NegotiateFlags.sign | NegotiateFlags.seal):
            encrypted = message.encrypted_random_session_key or b""
            if len(encrypted) != KEY_SIZE:
                raise StatusError(NtStatus.LOGON_FAILURE)
            self._session_key = rc4k(base_key, encrypted)
        else:
            self._session_key = base_key
        self._check_mic(message)
        if account.disabled:
            # Only who knows the password learns that the account is switched off.
            raise StatusError(NtStatus.ACCOUNT_DISABLED)
        self._context_attr = flags
        self._complete = True
        self.account = account

    def _find(self, message: Authenticate) -> Account:
        if not message.user_name:
            raise StatusError(NtStatus.ACCESS_DENIED, words="anonymous clients are not served")
        account = self._passdb.find(message.user_name)
        if account is None:
            raise UnknownUser(message.user_name)
        return account

    def _check_response(self, message: Authenticate, account: Account) -> bytes:
        """SessionBaseKey, if NTProofStr is right ([MS-NLMP] 3.3.2)."""
        response = message.nt_challenge_response or b""
        if account.nt_hash is None or len(response) <= LONGEST_OLD_RESPONSE:
            raise StatusError(NtStatus.LOGON_FAILURE)
        target_info = _target_info(response)
        challenge = self._temp_challenge
        assert challenge is not None
        key = ntowfv2(message.user_name or "", account.nt_hash, message.domain_name)
        proof = hmac_md5(key, (challenge.server_challenge or b"") + response[PROOF_SIZE:])
        if not hmac.compare_digest(proof, response[:PROOF_SIZE]):
            raise StatusError(NtStatus.LOGON_FAILURE)
        self._mic_expected = bool(target_info.get(AvId.flags, 0) & AvFlags.mic)
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


def _target_info(response: bytes) -> TargetInfo:
    """The AV_PAIRs of an NTLMv2 response ([MS-NLMP] 2.2.2.7)."""
    try:
        return NTClientChallengeV2.unpack(response[PROOF_SIZE:]).av_pairs
    except Exception as error:
        words = "the target information cannot be read"
        raise StatusError(NtStatus.INVALID_PARAMETER, words=words) from error
