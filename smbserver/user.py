"""Who authenticated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """The account that a session acts for."""

    name: str
    """As the account file spells it."""
    uid: int
    """The Unix user id of the account."""
    guest: bool = False
    anonymous: bool = False
    """Somebody who did not say who he is; only a session that somebody else has set up can become his."""
    gid: int | None = None
    """The Unix group that the share forces; None: the account's own."""
