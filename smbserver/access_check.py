"""What a security descriptor lets a user do ([MS-DTYP] 2.5.3.2), and what a new file inherits ([MS-DTYP] 2.5.3.4).

A user is known by stable local SIDs, S-1-22-1-UID and S-1-22-2-GID, which Samba also counts among those of a Unix
user: entries made here mean the same there.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from smbserver import access
from smbserver.identity import identity_of
from smbserver.wire.security_descriptor import (
    AUTHENTICATED_USERS,
    BUILTIN_ADMINISTRATORS,
    BUILTIN_USERS,
    CREATOR_GROUP,
    CREATOR_OWNER,
    EVERYONE,
    Ace,
    AceFlags,
    AceType,
    Acl,
    ControlFlags,
    SecurityDescriptor,
    Sid,
    unix_group,
    unix_user,
)

if TYPE_CHECKING:
    from smbserver.user import User

NETWORK = Sid(5, (2,))
OWNER_RIGHTS = Sid(3, (4,))

OWNER_ALWAYS = access.READ_CONTROL | access.WRITE_DAC

_CONTAINER = int(AceFlags.CONTAINER_INHERIT)
_OBJECT = int(AceFlags.OBJECT_INHERIT)
_NO_PROPAGATE = int(AceFlags.NO_PROPAGATE_INHERIT)
_INHERIT_ONLY = int(AceFlags.INHERIT_ONLY)
_INHERITED = int(AceFlags.INHERITED)
_AUTO = int(ControlFlags.DACL_AUTO_INHERITED)
_PROTECTED = int(ControlFlags.DACL_PROTECTED)


@functools.lru_cache(maxsize=1024)
def token_of(user: User) -> frozenset[Sid]:
    """All the SIDs of a user."""
    identity = identity_of(user.uid, user.gid)
    sids = {unix_user(user.uid), EVERYONE, NETWORK, BUILTIN_USERS, unix_group(identity.gid)}
    sids.update(unix_group(gid) for gid in identity.groups)
    if not (user.guest or user.anonymous):
        sids.add(AUTHENTICATED_USERS)
    if user.uid == 0:
        sids.add(BUILTIN_ADMINISTRATORS)
    return frozenset(sids)


def maximal_access(descriptor: SecurityDescriptor, token: frozenset[Sid]) -> int:
    """All that the descriptor gives: entries in their order, the first that names a right decides about it."""
    dacl = descriptor.dacl
    owns = descriptor.owner in token
    if dacl is None:
        return access.ALL
    given = taken = 0
    limited = False
    for ace in dacl.aces:
        if ace.ace_flags & _INHERIT_ONLY:
            continue
        if ace.sid == OWNER_RIGHTS:
            limited = True
        if ace.sid not in token and not (owns and ace.sid == OWNER_RIGHTS):
            continue
        rights = access.file_rights(ace.mask)
        if ace.ace_type == AceType.ACCESS_ALLOWED:
            given |= rights & ~taken
        elif ace.ace_type == AceType.ACCESS_DENIED:
            taken |= rights & ~given
    if owns and not limited:
        given |= OWNER_ALWAYS
    return given & access.ALL


def inherit(
    parent: SecurityDescriptor, owner: Sid, group: Sid, *, is_directory: bool
) -> SecurityDescriptor | None:
    """The descriptor of a new file or folder; None when its parent hands nothing down."""
    if parent.dacl is None:
        return None
    aces: list[Ace] = []
    for ace in parent.dacl.aces:
        aces += _handed_down(ace, owner, group, is_directory)
    if not aces:
        return None
    control = parent.control & _AUTO
    if not control:
        aces = [dataclasses.replace(ace, ace_flags=ace.ace_flags & ~_INHERITED) for ace in aces]
    return SecurityDescriptor(owner, group, None, Acl(tuple(aces)), control)


def _handed_down(ace: Ace, owner: Sid, group: Sid, is_directory: bool) -> list[Ace]:
    flags = ace.ace_flags
    below = flags & (_OBJECT | _CONTAINER)
    applies = bool(flags & (_CONTAINER if is_directory else _OBJECT))
    hands_on = is_directory and bool(below) and not flags & _NO_PROPAGATE
    if not applies and not hands_on:
        return []
    kept = below | _INHERITED if hands_on else _INHERITED
    if not applies:
        return [dataclasses.replace(ace, ace_flags=kept | _INHERIT_ONLY)]
    creator = {CREATOR_OWNER: owner, CREATOR_GROUP: group}.get(ace.sid) if ace.sid else None
    rights = access.file_rights(ace.mask)
    if creator is None and rights == ace.mask:
        return [dataclasses.replace(ace, ace_flags=kept)]
    # What stands for its creator, or for rights in general, becomes the real one here and goes on as it was.
    here = dataclasses.replace(ace, sid=creator or ace.sid, mask=rights, ace_flags=_INHERITED)
    return [here, dataclasses.replace(ace, ace_flags=kept | _INHERIT_ONLY)] if hands_on else [here]
