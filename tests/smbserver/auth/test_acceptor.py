from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spnego
from hypothesis import given
from hypothesis import strategies as st
from spnego._context import GSSMech
from spnego._ntlm_raw.crypto import rc4k
from spnego._ntlm_raw.messages import Authenticate, Negotiate, NegotiateFlags
from spnego._spnego import NegTokenInit, NegTokenResp

from smbserver.auth.acceptor import ACCEPT_COMPLETED, MAX_LEGS, Acceptor, initial_token
from smbserver.auth.passdb import Passdb
from smbserver.identity import user_id
from smbserver.user import User
from smbserver.wire.status import NtStatus, StatusError
from tests.effort import tries

FLAGS = (
    NegotiateFlags.unicode
    | NegotiateFlags.ntlm
    | NegotiateFlags.sign
    | NegotiateFlags.always_sign
    | NegotiateFlags.key_exch
    | NegotiateFlags.key_128
)


@pytest.fixture
def passdb(tmp_path: Path) -> Passdb:
    passdb = Passdb(tmp_path / "smbpasswd")
    passdb.set_password("Älice", "wonderland", uid=12)
    return passdb


def acceptor_of(passdb: Passdb, *, map_to_guest: bool = False) -> Acceptor:
    return Acceptor(passdb, "nobody", map_to_guest=map_to_guest)


def client(user: str, password: str, protocol: str = "negotiate") -> Any:
    options = spnego.NegotiateOptions.use_negotiate | spnego.NegotiateOptions.use_ntlm
    return spnego.client(user, password, "server", protocol=protocol, options=options)


def run(acceptor: Acceptor, initiator: Any) -> None:
    token = initiator.step()
    while acceptor.user is None:
        token = initiator.step(acceptor.step(token))
    assert token is None or not token


@pytest.mark.parametrize("protocol", ["negotiate", "ntlm"])
@pytest.mark.parametrize("user", ["Älice", "älice", "DOMAIN\\ÄLICE", "älice@realm"])
def test_right_password(passdb: Passdb, protocol: str, user: str) -> None:
    acceptor, initiator = acceptor_of(passdb), client(user, "wonderland", protocol)
    if "@" in user:
        with pytest.raises(StatusError) as error:
            run(acceptor, initiator)
        assert error.value.status == NtStatus.LOGON_FAILURE
        return
    run(acceptor, initiator)
    assert acceptor.user is not None
    assert (acceptor.user.name, acceptor.user.uid, acceptor.user.guest) == ("Älice", 12, False)
    assert acceptor.session_key == initiator.session_key
    assert len(acceptor.session_key) == 16


@pytest.mark.parametrize(("user", "password"), [("Älice", "no"), ("bob", "x"), ("Älice", "")])
def test_wrong_password(passdb: Passdb, user: str, password: str) -> None:
    acceptor = acceptor_of(passdb)
    with pytest.raises(StatusError) as error:
        run(acceptor, client(user, password))
    assert error.value.status == NtStatus.LOGON_FAILURE
    assert acceptor.user is None


def test_guest(passdb: Passdb) -> None:
    acceptor, initiator = acceptor_of(passdb, map_to_guest=True), client("bob", "x")
    assert acceptor.step(initiator.step(acceptor.step(initiator.step()))) == ACCEPT_COMPLETED
    assert acceptor.user is not None
    assert acceptor.user.guest
    assert acceptor.user.uid == user_id("nobody")
    assert not acceptor.session_key


@pytest.mark.parametrize("spnego", [False, True])
def test_anonymous(passdb: Passdb, spnego: bool) -> None:
    """What smbclient sends: no extended session security, one zero for a response, a key encrypted with zeros."""
    acceptor = acceptor_of(passdb)
    first = Negotiate(FLAGS).pack()
    key = bytes(range(16))
    second = Authenticate(
        FLAGS, b"\0", b"", encrypted_session_key=rc4k(bytes(16), key), workstation="client"
    ).pack()
    if spnego:
        first = NegTokenInit([GSSMech.ntlm.value], mech_token=first).pack()
        second = NegTokenResp(response_token=second).pack()
    acceptor.step(first)
    acceptor.step(second)
    assert acceptor.user == User("nobody", user_id("nobody"), anonymous=True)
    assert acceptor.session_key == key


@pytest.mark.parametrize("pairs", [b"", b"\1\0\4\0ab", b"\x11\xa2\x08\x81" + bytes(40)])
def test_target_information_that_is_not_whole(passdb: Passdb, pairs: bytes) -> None:
    acceptor = acceptor_of(passdb)
    acceptor.step(Negotiate(FLAGS).pack())
    response = bytes(16) + b"\1\1" + bytes(26) + pairs
    token = Authenticate(FLAGS, b"", response, username="Älice")
    with pytest.raises(StatusError) as error:
        acceptor.step(token.pack())
    assert error.value.status == NtStatus.INVALID_PARAMETER


def test_old_responses_are_refused(passdb: Passdb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_COMPAT_LEVEL", "1")
    with pytest.raises(StatusError) as error:
        run(acceptor_of(passdb), client("Älice", "wonderland", "ntlm"))
    assert error.value.status == NtStatus.LOGON_FAILURE


def test_legs_are_bounded(passdb: Passdb) -> None:
    acceptor = acceptor_of(passdb)
    acceptor._legs = MAX_LEGS
    with pytest.raises(StatusError):
        acceptor.step(client("a", "b").step())


def test_initial_token_is_a_neg_token_init() -> None:
    assert initial_token()[:1] == b"\x60"


@tries(200)
@given(st.binary(max_size=300))
def test_any_first_token_ends_in_a_status(passdb: Passdb, token: bytes) -> None:
    for start in (b"", b"NTLMSSP\0", b"NTLMSSP\0\1\0\0\0", b"\x60", b"\xa1"):
        acceptor = acceptor_of(passdb)
        try:
            acceptor.step(start + token)
        except StatusError as error:
            assert error.status in (NtStatus.INVALID_PARAMETER, NtStatus.LOGON_FAILURE)
        assert acceptor.user is None


@tries(200)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_second_token_admits_nobody_else(
    passdb: Passdb, changes: list[tuple[int, int]]
) -> None:
    acceptor, initiator = acceptor_of(passdb), client("Älice", "wonderland", "ntlm")
    token = bytearray(initiator.step(acceptor.step(initiator.step())))
    for at, value in changes:
        token[at % len(token)] = value
    try:
        acceptor.step(bytes(token))
    except StatusError:
        assert acceptor.user is None
    else:
        user = acceptor.user
        assert user is None or user.anonymous or user.name == "Älice"
