"""Security descriptors, ACLs and SIDs ([MS-DTYP] 2.4.2, 2.4.4, 2.4.5, 2.4.6), self-relative."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct, unpack_from

from smbserver.wire.bounds import Buffer, Malformed, slice_at
from smbserver.wire.bounds import unpack_from as unpack_at

MAX_SUB_AUTHORITIES = 15
"""[MS-DTYP] 2.4.2.2, SubAuthorityCount."""

_SID = Struct(">BBHI")
_ACL = Struct("<BBHHH")
_ACE = Struct("<BBH")
_MASK = Struct("<I")
_DESCRIPTOR = Struct("<BBHIIII")


class ControlFlags(IntFlag):
    """Control of SECURITY_DESCRIPTOR."""

    OWNER_DEFAULTED = 0x0001
    GROUP_DEFAULTED = 0x0002
    DACL_PRESENT = 0x0004
    DACL_DEFAULTED = 0x0008
    SACL_PRESENT = 0x0010
    SACL_DEFAULTED = 0x0020
    DACL_AUTO_INHERIT_REQ = 0x0100
    SACL_AUTO_INHERIT_REQ = 0x0200
    DACL_AUTO_INHERITED = 0x0400
    SACL_AUTO_INHERITED = 0x0800
    DACL_PROTECTED = 0x1000
    SACL_PROTECTED = 0x2000
    RM_CONTROL_VALID = 0x4000
    SELF_RELATIVE = 0x8000


class AceType(IntEnum):
    """AceType ([MS-DTYP] 2.4.4.1) of the ACEs that are a mask and a SID."""

    ACCESS_ALLOWED = 0x00
    ACCESS_DENIED = 0x01
    SYSTEM_AUDIT = 0x02
    SYSTEM_MANDATORY_LABEL = 0x11
    SYSTEM_SCOPED_POLICY_ID = 0x13


class AceFlags(IntFlag):
    """AceFlags."""

    OBJECT_INHERIT = 0x01
    CONTAINER_INHERIT = 0x02
    NO_PROPAGATE_INHERIT = 0x04
    INHERIT_ONLY = 0x08
    INHERITED = 0x10
    SUCCESSFUL_ACCESS = 0x40
    FAILED_ACCESS = 0x80


@dataclass(frozen=True, slots=True)
class Sid:
    """SID ([MS-DTYP] 2.4.2.2)."""

    identifier_authority: int
    sub_authorities: tuple[int, ...]

    @classmethod
    def parse(cls, buffer: Buffer, offset: int = 0) -> Sid:
        revision, count, high, low = unpack_at(_SID, buffer, offset, "SID")
        if revision != 1 or count > MAX_SUB_AUTHORITIES:
            raise Malformed(f"SID of revision {revision} with {count} sub-authorities")
        raw = slice_at(buffer, offset + _SID.size, 4 * count, 0, "SubAuthority")
        return cls(high << 32 | low, unpack_from(f"<{count}I", raw))

    @classmethod
    def from_string(cls, text: str) -> Sid:
        """`S-1-5-21-...`"""
        prefix, revision, authority, *rest = text.split("-")
        if (prefix, revision) != ("S", "1") or len(rest) > MAX_SUB_AUTHORITIES:
            raise ValueError(f"{text!r} is not a SID of revision 1")
        return cls(int(authority, 0), tuple(int(number) for number in rest))

    def pack(self) -> bytes:
        authority = self.identifier_authority
        fixed = _SID.pack(1, len(self.sub_authorities), authority >> 32, authority & 0xFFFFFFFF)
        return fixed + b"".join(number.to_bytes(4, "little") for number in self.sub_authorities)

    def __str__(self) -> str:
        return "-".join(("S", "1", str(self.identifier_authority), *map(str, self.sub_authorities)))


EVERYONE = Sid(1, (0,))
CREATOR_OWNER = Sid(3, (0,))
CREATOR_GROUP = Sid(3, (1,))
AUTHENTICATED_USERS = Sid(5, (11,))
LOCAL_SYSTEM = Sid(5, (18,))
BUILTIN_ADMINISTRATORS = Sid(5, (32, 544))
BUILTIN_USERS = Sid(5, (32, 545))


def unix_user(uid: int) -> Sid:
    """The SID that stands for a Unix user without an account of its own (S-1-22-1)."""
    return Sid(22, (1, uid))


def unix_group(gid: int) -> Sid:
    """The SID that stands for a Unix group (S-1-22-2)."""
    return Sid(22, (2, gid))


@dataclass(frozen=True, slots=True)
class Ace:
    """ACE ([MS-DTYP] 2.4.4): a mask and a SID, or, for other types, what lies behind the header."""

    ace_type: int
    ace_flags: int = 0
    mask: int = 0
    sid: Sid | None = None
    opaque: bytes = b""
    """The body of a type that is not in `AceType`."""

    def pack(self) -> bytes:
        body = self.opaque
        if self.sid is not None:
            body = _MASK.pack(self.mask) + self.sid.pack() + self.opaque
        return _ACE.pack(self.ace_type, self.ace_flags, _ACE.size + len(body)) + body


_SIMPLE_TYPES = frozenset(AceType)


def _parse_ace(raw: memoryview) -> Ace:
    ace_type, flags, _ = _ACE.unpack_from(raw)
    if ace_type not in _SIMPLE_TYPES:
        return Ace(ace_type, flags, opaque=bytes(raw[_ACE.size :]))
    (mask,) = unpack_at(_MASK, raw, _ACE.size, "ACE")
    start = _ACE.size + _MASK.size
    sid = Sid.parse(raw, start)
    end = start + _SID.size + 4 * len(sid.sub_authorities)
    return Ace(ace_type, flags, mask, sid, bytes(raw[end:]))


@dataclass(frozen=True, slots=True)
class Acl:
    """ACL ([MS-DTYP] 2.4.5)."""

    aces: tuple[Ace, ...] = ()
    acl_revision: int = 2

    @classmethod
    def parse(cls, buffer: Buffer, offset: int = 0) -> Acl:
        revision, _, size, count, _ = unpack_at(_ACL, buffer, offset, "ACL")
        rest = slice_at(buffer, offset, size, 0, "ACL")[_ACL.size :]
        aces = []
        for _ in range(count):
            _, _, ace_size = unpack_at(_ACE, rest, 0, "ACE")
            if ace_size < _ACE.size or ace_size > len(rest):
                raise Malformed(f"ACE of {ace_size} bytes where {len(rest)} are left")
            aces.append(_parse_ace(rest[:ace_size]))
            rest = rest[ace_size:]
        return cls(tuple(aces), revision)

    def pack(self) -> bytes:
        aces = b"".join(ace.pack() for ace in self.aces)
        return _ACL.pack(self.acl_revision, 0, _ACL.size + len(aces), len(self.aces), 0) + aces


@dataclass(frozen=True, slots=True)
class SecurityDescriptor:
    """SECURITY_DESCRIPTOR ([MS-DTYP] 2.4.6). DACL_PRESENT with `dacl` None lets everyone in."""

    owner: Sid | None = None
    group: Sid | None = None
    sacl: Acl | None = None
    dacl: Acl | None = None
    control: int = ControlFlags.SELF_RELATIVE

    @classmethod
    def parse(cls, buffer: Buffer) -> SecurityDescriptor:
        revision, _, control, owner, group, sacl, dacl = unpack_at(
            _DESCRIPTOR, buffer, 0, "SECURITY_DESCRIPTOR"
        )
        if revision != 1 or not control & ControlFlags.SELF_RELATIVE:
            raise Malformed(f"security descriptor of revision {revision}, control 0x{control:04X}")
        for offset in (owner, group, sacl, dacl):
            if offset and offset < _DESCRIPTOR.size:
                raise Malformed(f"security descriptor with a part at offset {offset}")
        return cls(
            Sid.parse(buffer, owner) if owner else None,
            Sid.parse(buffer, group) if group else None,
            Acl.parse(buffer, sacl) if sacl and control & ControlFlags.SACL_PRESENT else None,
            Acl.parse(buffer, dacl) if dacl and control & ControlFlags.DACL_PRESENT else None,
            control,
        )

    def pack(self) -> bytes:
        control = self.control | ControlFlags.SELF_RELATIVE
        if self.sacl is not None:
            control |= ControlFlags.SACL_PRESENT
        if self.dacl is not None:
            control |= ControlFlags.DACL_PRESENT
        offsets, parts, end = [], b"", _DESCRIPTOR.size
        for part in (self.owner, self.group, self.sacl, self.dacl):
            packed = part.pack() if part is not None else b""
            offsets.append(end + len(parts) if packed else 0)
            parts += packed
        return _DESCRIPTOR.pack(1, 0, control, *offsets) + parts
