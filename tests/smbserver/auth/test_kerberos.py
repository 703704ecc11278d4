"""Whom a principal stands for. tests/interop/test_kerberos.py has real tickets."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from smbserver.auth.acceptor import Acceptor, initial_token
from smbserver.auth.kerberos import OIDS, Kerberos, kerberos
from smbserver.auth.passdb import Passdb
from smbserver.config import parse
from smbserver.user import User
from smbserver.wire.status import NtStatus, StatusError
from tests.smbserver.auth.test_acceptor import client, run


@pytest.fixture
def passdb(tmp_path: Path) -> Passdb:
    passdb = Passdb(tmp_path / "smbpasswd")
    passdb.set_password("Alice", "x", uid=12)
    passdb.set_password("carol", "x", uid=13)
    passdb.set_disabled("carol", True)
    return passdb


def test_accounts_come_first(passdb: Passdb) -> None:
    assert Kerberos("", "EXAMPLE.TEST").user("alice@EXAMPLE.TEST", passdb) == User("Alice", 12)


def test_unix_users_without_an_account(passdb: Passdb) -> None:
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert Kerberos("", "").user(f"{name}@ANY.TEST", passdb) == User(name, os.geteuid())


@pytest.mark.parametrize(
    ("principal", "status"),
    [
        ("alice@OTHER.TEST", NtStatus.LOGON_FAILURE),
        ("carol@EXAMPLE.TEST", NtStatus.ACCOUNT_DISABLED),
    ],
)
def test_who_is_refused(passdb: Passdb, principal: str, status: NtStatus) -> None:
    with pytest.raises(StatusError) as refused:
        Kerberos("", "example.test").user(principal, passdb)
    assert refused.value.status == status


def test_it_is_off_unless_a_keytab_is_named() -> None:
    assert kerberos(parse([]).general) is None
    assert kerberos(parse(["realm = EXAMPLE.TEST", "kerberos method = default"]).general) is None


def test_it_is_offered_first() -> None:
    offered = initial_token(with_kerberos=True)
    plain = initial_token()
    assert len(offered) > len(plain)
    assert len(OIDS) == 2


@pytest.mark.parametrize("protocol", ["negotiate", "ntlm"])
def test_ntlm_goes_on_beside_it(passdb: Passdb, protocol: str) -> None:
    acceptor = Acceptor(passdb, "nobody", kerberos=Kerberos("/nonexistent", ""))
    run(acceptor, client("alice", "x", protocol))
    assert acceptor.user == User("Alice", 12)
