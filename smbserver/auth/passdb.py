"""The accounts: an smbpasswd(5) file.

One line per account: name, Unix uid, LM hash, NT hash, flags in brackets, time of the last change. It is written by
replacing it as a whole, with mode 0600, and read again when it has changed.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from spnego._ntlm_raw.md4 import md4

NO_HASH = "X" * 32
"""Stands where there is no hash; such an account cannot log on by password."""

_LINE = re.compile(
    r"(?P<name>[^:\n]+):(?P<uid>\d+):(?P<lm>[^:]{32}):(?P<nt>[^:]{32}):\[(?P<flags>[A-Z ]*)\]:"
    r"(?:LCT-(?P<changed>[0-9A-Fa-f]{8}))?:?.*"
)


class PassdbError(ValueError):
    """The account file or a change to it makes no sense."""


@dataclass(frozen=True, slots=True)
class Account:
    """One line of the file."""

    name: str
    uid: int
    nt_hash: bytes | None
    """MD4 of the password in UTF-16; None: no password, no logon."""
    flags: str = "U"
    """U: user; D: disabled; N: no password needed (not honoured here)."""
    changed: int = 0
    """Seconds since 1970."""

    @property
    def disabled(self) -> bool:
        """Whether the account may not log on."""
        return "D" in self.flags

    def line(self) -> str:
        """The line of the file."""
        nt_hash = self.nt_hash.hex().upper() if self.nt_hash else NO_HASH
        return (
            f"{self.name}:{self.uid}:{NO_HASH}:{nt_hash}:[{self.flags:<11}]:LCT-{self.changed:08X}:"
        )


def nt_hash(password: str) -> bytes:
    """The NT hash ([MS-NLMP] 3.3.1, NTOWFv1)."""
    return md4(password.encode("utf-16-le", "surrogatepass"))


def parse_line(line: str) -> Account | None:
    """The account of a line; None for comments and what cannot be understood."""
    match = _LINE.fullmatch(line.strip())
    if line.startswith("#") or not match:
        return None
    try:
        key = bytes.fromhex(match["nt"])
    except ValueError:
        key = b""
    flags = match["flags"].replace(" ", "")
    return Account(
        match["name"], int(match["uid"]), key or None, flags, int(match["changed"] or "0", 16)
    )


class Passdb:
    """The accounts of one file, always as the file has them now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._accounts: dict[str, Account] = {}

    def find(self, name: str) -> Account | None:
        """The account of that name, whatever its case."""
        self._refresh()
        return self._accounts.get(name.casefold())

    def accounts(self) -> list[Account]:
        """All of them, in the order of the file."""
        self._refresh()
        return list(self._accounts.values())

    def set_password(self, name: str, password: str, uid: int | None = None) -> Account:
        """Add an account, or give an existing one a new password."""
        if not name or re.search(r"[:\\/\[\]\n\0]", name) or name.startswith("#"):
            raise PassdbError(
                f"{name!r} cannot be the name of an account: leave out : \\ / [ ] and #"
            )
        known = self.find(name)
        if known is None:
            known = Account(name, os.getuid() if uid is None else uid, None)
        account = replace(known, nt_hash=nt_hash(password), changed=int(time.time()))
        self._write([*(one for one in self.accounts() if one.name != account.name), account])
        return account

    def remove(self, name: str) -> None:
        """Delete an account."""
        account = self._existing(name)
        self._write(one for one in self.accounts() if one.name != account.name)

    def set_disabled(self, name: str, disabled: bool) -> None:
        """Switch an account off or on."""
        account = self._existing(name)
        flags = account.flags.replace("D", "") + ("D" if disabled else "")
        changed = replace(account, flags=flags)
        self._write(changed if one.name == account.name else one for one in self.accounts())

    def _existing(self, name: str) -> Account:
        account = self.find(name)
        if account is None:
            raise PassdbError(f"{self.path} has no account {name!r}")
        return account

    def _refresh(self) -> None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            self._stamp, self._accounts = None, {}
            return
        stamp = status.st_mtime_ns, status.st_ino, status.st_size
        if stamp == self._stamp:
            return
        lines = self.path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        parsed = filter(None, map(parse_line, lines))
        self._accounts = {account.name.casefold(): account for account in parsed}
        self._stamp = stamp

    def _write(self, accounts: Iterable[Account]) -> None:
        text = "".join(account.line() + "\n" for account in accounts)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes it 0600: the hashes are as good as the passwords.
        descriptor, name = tempfile.mkstemp(prefix=self.path.name, dir=self.path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise
        self._stamp = None
