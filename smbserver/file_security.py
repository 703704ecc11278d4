"""The security descriptor that a file's owner and mode amount to ([MS-DTYP] 2.4.6)."""

from __future__ import annotations

from smbserver import access
from smbserver.wire.security_descriptor import (
    EVERYONE,
    Ace,
    AceType,
    Acl,
    SecurityDescriptor,
    Sid,
    unix_group,
    unix_user,
)

OWNER = 0x1
GROUP = 0x2
DACL = 0x4
SACL = 0x8

_READ = 0x00120089
_WRITE = 0x00120116
_EXECUTE = 0x001200A0
_OWNER_ALWAYS = (
    access.DELETE
    | access.READ_CONTROL
    | access.WRITE_DAC
    | access.WRITE_OWNER
    | access.SYNCHRONIZE
    | access.READ_ATTRIBUTES
    | access.WRITE_ATTRIBUTES
)


def security_descriptor(mode: int, uid: int, gid: int, parts: int) -> SecurityDescriptor:
    """Owner, group and a DACL with one entry each for owner, group and everyone."""
    owner, group = unix_user(uid), unix_group(gid)
    dacl = None
    if parts & DACL:
        dacl = Acl(
            (
                _allow(owner, _OWNER_ALWAYS | _rights(mode >> 6)),
                _allow(group, _rights(mode >> 3)),
                _allow(EVERYONE, _rights(mode)),
            )
        )
    return SecurityDescriptor(
        owner=owner if parts & OWNER else None,
        group=group if parts & GROUP else None,
        dacl=dacl,
    )


def _rights(bits: int) -> int:
    rights = _READ if bits & 4 else 0
    rights |= _WRITE if bits & 2 else 0
    return rights | (_EXECUTE if bits & 1 else 0)


def _allow(sid: Sid, mask: int) -> Ace:
    return Ace(AceType.ACCESS_ALLOWED, mask=mask, sid=sid)
