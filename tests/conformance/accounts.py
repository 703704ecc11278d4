"""Who connects: accounts of the system that every Debian has, so that root's server can act as them."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass

PASSWORD = "pass-Word1"


@dataclass(frozen=True, slots=True)
class Accounts:
    user: str
    other: str
    """A second user, for sessions that change hands."""
    administrator: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.user, self.other, self.administrator)))


def accounts() -> Accounts:
    """Ordinary users and root; a server that runs as an ordinary user has that one only."""
    if os.geteuid() == 0:
        return Accounts("games", "news", "root")
    own = getpass.getuser()
    return Accounts(own, own, own)
