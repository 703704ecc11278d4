"""What descriptors give, and what they hand down."""

from __future__ import annotations

import pytest

from smbserver import access
from smbserver.access_check import OWNER_ALWAYS, OWNER_RIGHTS, inherit, maximal_access, token_of
from smbserver.user import User
from smbserver.wire.security_descriptor import (
    AUTHENTICATED_USERS,
    CREATOR_OWNER,
    EVERYONE,
    Ace,
    AceType,
    Acl,
    SecurityDescriptor,
    Sid,
    unix_group,
    unix_user,
)

ME, OTHER, GROUP = unix_user(4001), unix_user(4002), unix_group(4001)
TOKEN = frozenset({ME, EVERYONE})
OI, CI, NP, IO, INHERITED = 1, 2, 4, 8, 0x10
ALLOW, DENY = AceType.ACCESS_ALLOWED, AceType.ACCESS_DENIED


def descriptor(*aces: Ace, owner: Sid = OTHER) -> SecurityDescriptor:
    return SecurityDescriptor(owner, GROUP, None, Acl(aces), 0x8004)


@pytest.mark.parametrize(
    ("aces", "owner", "rights"),
    [
        ((), OTHER, 0),
        ((), ME, OWNER_ALWAYS),
        ((Ace(ALLOW, 0, 3, ME),), OTHER, 3),
        ((Ace(ALLOW, 0, 3, OTHER),), OTHER, 0),
        ((Ace(DENY, 0, 1, EVERYONE), Ace(ALLOW, 0, 3, ME)), OTHER, 2),
        ((Ace(ALLOW, 0, 3, ME), Ace(DENY, 0, 1, EVERYONE)), OTHER, 3),
        ((Ace(ALLOW, IO | OI, 3, ME),), OTHER, 0),
        ((Ace(ALLOW, 0, access.GENERIC_ALL, ME),), OTHER, access.ALL),
        ((Ace(ALLOW, 0, 1, OWNER_RIGHTS),), ME, 1),
        ((Ace(ALLOW, 0, 1, OWNER_RIGHTS),), OTHER, 0),
    ],
)
def test_maximal_access(aces: tuple[Ace, ...], owner: Sid, rights: int) -> None:
    assert maximal_access(descriptor(*aces, owner=owner), TOKEN) == rights


def test_without_a_list_everything_is_given() -> None:
    assert maximal_access(SecurityDescriptor(OTHER, GROUP), TOKEN) == access.ALL


def test_the_token_of_a_guest_is_not_authenticated() -> None:
    assert unix_user(4001) in token_of(User("me", 4001))
    assert AUTHENTICATED_USERS in token_of(User("me", 4001))
    assert AUTHENTICATED_USERS not in token_of(User("me", 4001, guest=True))


@pytest.mark.parametrize(
    ("flags", "file", "folder"),
    [
        (0, None, None),
        (OI, [0], [OI | IO]),
        (CI, None, [CI]),
        (OI | CI, [0], [OI | CI]),
        (OI | CI | IO, [0], [OI | CI]),
        (OI | NP, [0], None),
        (CI | NP, None, [0]),
    ],
)
def test_what_is_handed_down(flags: int, file: list[int] | None, folder: list[int] | None) -> None:
    parent = descriptor(Ace(ALLOW, flags, 3, OTHER))
    for is_directory, expected in ((False, file), (True, folder)):
        made = inherit(parent, ME, GROUP, is_directory=is_directory)
        assert (made is None) == (expected is None)
        if made is not None and made.dacl is not None:
            assert [ace.ace_flags for ace in made.dacl.aces] == expected
            assert made.owner == ME


def test_the_creator_becomes_somebody() -> None:
    parent = descriptor(Ace(ALLOW, OI | CI, access.GENERIC_READ, CREATOR_OWNER))
    made = inherit(parent, ME, GROUP, is_directory=True)
    assert made is not None
    assert made.dacl is not None
    here, below = made.dacl.aces
    assert (here.sid, here.mask, here.ace_flags) == (ME, 0x00120089, 0)
    assert (below.sid, below.ace_flags) == (CREATOR_OWNER, OI | CI | IO)
