"""Who may do what with a file: its stored security descriptor, else what owner and mode amount to ([MS-DTYP] 2.4.6).

A stored descriptor is asked besides the mode, never instead of it: the system checks the mode whatever we think.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from smbserver import access
from smbserver.access_check import inherit, maximal_access, token_of
from smbserver.vfs import nt_acl
from smbserver.vfs.handle import Handle
from smbserver.vfs.openat2 import open_beneath
from smbserver.wire.bounds import Buffer, Malformed
from smbserver.wire.filetime import now
from smbserver.wire.security_descriptor import (
    EVERYONE,
    LOCAL_SYSTEM,
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
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.user import User
    from smbserver.vfs import Share

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
                _allow(owner, _OWNER_ALWAYS | _rights(mode, 6)),
                _allow(group, _rights(mode, 3)),
                _allow(EVERYONE, _rights(mode, 0)),
            )
        )
    return SecurityDescriptor(
        owner=owner if parts & OWNER else None,
        group=group if parts & GROUP else None,
        dacl=dacl,
    )


def _rights(mode: int, shift: int) -> int:
    bits = mode >> shift
    rights = _READ if bits & 4 else 0
    rights |= _WRITE if bits & 2 else 0
    if bits & 2 and stat.S_ISDIR(mode):
        rights |= access.DELETE_CHILD
    return rights | (_EXECUTE if bits & 1 else 0)


def _allow(sid: Sid, mask: int) -> Ace:
    return Ace(AceType.ACCESS_ALLOWED, mask=mask, sid=sid)


# what is stored


def stored(share: Share, target: int | str) -> SecurityDescriptor | None:
    """The descriptor kept with a file; None for none, or one that nobody can read."""
    value = nt_acl.read(target, share.parameters.security_acl_name)
    try:
        return SecurityDescriptor.parse(value) if value is not None else None
    except Malformed:
        return None


def effective(share: Share, handle: Handle, parts: int) -> SecurityDescriptor:
    """The parts asked for of what counts for an open file."""
    found = stored(share, handle.target)
    if found is None:
        return security_descriptor(*handle.mode_and_owner(), parts)
    control = found.control & (_DACL_CONTROL if parts & DACL else 0)
    return SecurityDescriptor(
        found.owner if parts & OWNER else None,
        found.group if parts & GROUP else None,
        found.sacl if parts & SACL else None,
        found.dacl if parts & DACL else None,
        control,
    )


def change(share: Share, handle: Handle, parts: int, buffer: Buffer) -> None:
    """Stores the parts given ([MS-FSA] 2.1.5.16). An owner is one in the descriptor's sense: the file stays whose
    it is for the system."""
    given = SecurityDescriptor.parse(buffer)
    kept = effective(share, handle, OWNER | GROUP | DACL | SACL)
    canonical = share.parameters.acl_flag_inherited_canonicalization
    dacl, control = kept.dacl, kept.control & _DACL_CONTROL
    if parts & DACL:
        dacl, control = _mapped(given.dacl), _canonical(given.control, canonical)
    changed = SecurityDescriptor(
        given.owner if parts & OWNER and given.owner is not None else kept.owner,
        given.group if parts & GROUP and given.group is not None else kept.group,
        given.sacl if parts & SACL else kept.sacl,
        dacl,
        control,
    )
    if not _store(share, handle, changed):
        raise StatusError(NtStatus.NOT_SUPPORTED)  # a lie about protection would be worse


def _store(share: Share, handle: Handle, descriptor: SecurityDescriptor) -> bool:
    attribute = share.parameters.security_acl_name
    return nt_acl.write(handle.target, descriptor.pack(), now(), attribute)


_DACL_CONTROL = int(
    ControlFlags.DACL_PRESENT
    | ControlFlags.DACL_DEFAULTED
    | ControlFlags.DACL_AUTO_INHERITED
    | ControlFlags.DACL_PROTECTED
)


def _canonical(control: int, canonical: bool = True) -> int:
    """AUTO_INHERITED is kept only where the client asked for inheritance by AUTO_INHERIT_REQ ([MS-DTYP] 2.5.3.4)."""
    kept = control & _DACL_CONTROL | ControlFlags.DACL_PRESENT
    if canonical and not control & ControlFlags.DACL_AUTO_INHERIT_REQ:
        kept &= ~ControlFlags.DACL_AUTO_INHERITED
    return int(kept)


def _mapped(dacl: Acl | None) -> Acl | None:
    """Generic rights become those of files, except where they are only handed on."""
    if dacl is None:
        return None
    return Acl(
        tuple(
            ace
            if ace.ace_flags & AceFlags.INHERIT_ONLY
            else Ace(ace.ace_type, ace.ace_flags, access.file_rights(ace.mask), ace.sid, ace.opaque)
            for ace in dacl.aces
        ),
        dacl.acl_revision,
    )


# what it gives


def allowed(share: Share, path: str, fd: int, user: User | None) -> int:
    """The rights that descriptors give the user at this object.

    Where none is stored all of them, but nobody deletes what belongs to others from a folder that is not his to change.
    """
    descriptor = stored(share, f"/proc/self/fd/{fd}")
    if user is None:  # it is the server itself
        return access.ALL
    if descriptor is None:
        if not path or os.fstat(fd).st_uid == user.uid:
            return access.ALL
        return access.ALL & ~access.DELETE | _by_folder(share, path, user)
    rights = maximal_access(descriptor, token_of(user))
    return rights | _by_folder(share, path, user) if path else rights


def _by_folder(share: Share, path: str, user: User) -> int:
    """Who lists a folder sees attributes, and who may delete from it may delete ([MS-FSA] 2.1.5.1.2.1)."""
    folder = open_beneath(share.root, path.rpartition("/")[0], os.O_PATH | os.O_DIRECTORY)
    try:
        target = f"/proc/self/fd/{folder}"
        descriptor = stored(share, target)
        if descriptor is not None:
            given = maximal_access(descriptor, token_of(user))
            lists, deletes = given & access.LIST_DIRECTORY, given & access.DELETE_CHILD
        else:
            lists = os.access(target, os.R_OK, effective_ids=True)
            deletes = os.access(target, os.W_OK, effective_ids=True)
    finally:
        os.close(folder)
    return (access.READ_ATTRIBUTES if lists else 0) | (access.DELETE if deletes else 0)


def is_readable(share: Share, folder: int, name: str, user: User | None) -> bool:
    """Whether the user may read an entry of an open folder as a whole: what `hide unreadable` shows."""
    try:
        if not os.access(name, os.R_OK, dir_fd=folder, effective_ids=True):
            return False
    except OSError:
        return False
    descriptor = stored(share, f"/proc/self/fd/{folder}/{name}")
    if descriptor is None or user is None:
        return True
    return not _READ & ~maximal_access(descriptor, token_of(user))


# new files


def check_folder(
    share: Share, path: str, user: User | None, right: int
) -> SecurityDescriptor | None:
    """Refuses who may not add to the folder of `path`; its stored descriptor."""
    folder = open_beneath(share.root, path.rpartition("/")[0], os.O_PATH | os.O_DIRECTORY)
    try:
        descriptor = stored(share, f"/proc/self/fd/{folder}")
    finally:
        os.close(folder)
    if descriptor is None or user is None:
        return descriptor
    if not maximal_access(descriptor, token_of(user)) & right:
        raise StatusError(NtStatus.ACCESS_DENIED)
    return descriptor


def secure_new(
    share: Share,
    handle: Handle,
    parent: SecurityDescriptor | None,
    wanted: SecurityDescriptor | None,
) -> None:
    """Gives a new file the descriptor that its maker wants, or that its folder hands down."""
    mode, uid, gid = handle.mode_and_owner()
    made = None
    if parent is not None:
        owner, group = unix_user(uid), unix_group(gid)
        made = inherit(parent, owner, group, is_directory=handle.is_directory)
        made = made or SecurityDescriptor(
            owner, group, None, Acl((_allow(owner, access.ALL), _allow(LOCAL_SYSTEM, access.ALL)))
        )
    if wanted is not None and (wanted.owner or wanted.group or _has_dacl(wanted)):
        base = made or security_descriptor(mode, uid, gid, OWNER | GROUP | DACL)
        made = SecurityDescriptor(
            wanted.owner or base.owner,
            wanted.group or base.group,
            None,
            _mapped(wanted.dacl) if _has_dacl(wanted) else base.dacl,
            _canonical(wanted.control) if _has_dacl(wanted) else base.control,
        )
    if made is None or _store(share, handle, made) or wanted is None:
        return  # what is only handed down is given up where descriptors cannot be stored
    raise StatusError(NtStatus.NOT_SUPPORTED)


def _has_dacl(descriptor: SecurityDescriptor) -> bool:
    return bool(descriptor.control & ControlFlags.DACL_PRESENT)
