from __future__ import annotations

import stat
from pathlib import Path

import pytest

from smbserver.auth.passdb import Account, Passdb, PassdbError, nt_hash, parse_line

SAMBA_LINE = (
    "alice:1000:XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX:"
    "878D8014606CDA29677A44EFA1353FC7:[U          ]:LCT-5EBB7E2D:"
)


def test_nt_hash() -> None:
    assert nt_hash("secret").hex().upper() == "878D8014606CDA29677A44EFA1353FC7"


def test_line_of_samba() -> None:
    account = parse_line(SAMBA_LINE)
    assert account == Account("alice", 1000, nt_hash("secret"), "U", 0x5EBB7E2D)
    assert account is not None
    assert account.line() == SAMBA_LINE


@pytest.mark.parametrize(
    "line", ["", "# alice:1:X:Y:[U]:", "alice", "alice:x:y", SAMBA_LINE.replace("1000", "uid")]
)
def test_lines_that_are_no_account(line: str) -> None:
    assert parse_line(line) is None


def test_no_password_is_no_logon() -> None:
    account = parse_line(SAMBA_LINE.replace("878D8014606CDA29677A44EFA1353FC7", "X" * 32))
    assert account is not None
    assert account.nt_hash is None


def test_life_of_an_account(tmp_path: Path) -> None:
    passdb, other = Passdb(tmp_path / "new" / "smbpasswd"), Passdb(tmp_path / "new" / "smbpasswd")
    assert passdb.find("alice") is None
    passdb.set_password("Alice", "one", uid=7)
    passdb.set_password("bob", "two")
    found = other.find("ALICE")
    assert found is not None
    assert (found.name, found.uid, found.nt_hash) == ("Alice", 7, nt_hash("one"))
    passdb.set_password("alice", "three")
    passdb.set_disabled("alice", True)
    found = other.find("alice")
    assert found is not None
    assert (found.nt_hash, found.uid, found.disabled) == (nt_hash("three"), 7, True)
    passdb.set_disabled("alice", False)
    passdb.remove("bob")
    assert [(one.name, one.disabled) for one in other.accounts()] == [("Alice", False)]
    assert stat.S_IMODE(passdb.path.stat().st_mode) == 0o600


def test_changes_that_make_no_sense(tmp_path: Path) -> None:
    passdb = Passdb(tmp_path / "smbpasswd")
    with pytest.raises(PassdbError):
        passdb.remove("nobody")
    for name in ("", "a:b", "a\nb", "#a", "DOM\\a"):
        with pytest.raises(PassdbError):
            passdb.set_password(name, "x")
