"""DOS attributes and creation time in the extended attribute that Samba uses.

The value is Samba's xattr_DOSATTRIB in NDR: an empty string, a version and a body aligned to four. Versions
3, 4 and 5 are read, 5 is written. A version 5 body is valid flags, attributes and creation time. Behind it, where
Samba does not look, we keep a ChangeTime that a client has set: Linux lets nobody set its own.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass

XATTR = "user.DOSATTRIB"

READONLY = 0x01
HIDDEN = 0x02
SYSTEM = 0x04
DIRECTORY = 0x10
ARCHIVE = 0x20
NORMAL = 0x80
TEMPORARY = 0x100
SPARSE = 0x200

STORED = READONLY | HIDDEN | SYSTEM | ARCHIVE | SPARSE
"""What a client may set and what survives; all else follows from the file itself."""

_VALID_ATTRIBUTES = 0x01
_VALID_CREATION_TIME = 0x10

_VERSION_5 = 5
_HEAD = struct.Struct(
    "<HHHH"
)  # "" and its alignment, version, version again as the union's switch, pad
_BODY_5 = struct.Struct("<IIQ")
_CHANGE = struct.Struct("<QQ")
"""ChangeTime, and the clock at the time it was set."""
_BODY_4 = struct.Struct("<IIQQ")  # valid flags, attributes, itime, creation time
_BODY_3 = struct.Struct(
    "<IIIQQQQ"
)  # flags, attributes, EA size, size, allocation, creation, change

_ABSENT = (errno.ENODATA, errno.ENOTSUP, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class DosAttributes:
    """What the extended attribute of one file says."""

    attributes: int
    creation_time: int = 0
    """FILETIME; 0 when none is stored."""
    change_time: int = 0
    """FILETIME that a client has set; 0: none."""
    changed_at_ns: int = 0
    """When it was set. It counts as long as the file has not been changed since."""

    def pack(self) -> bytes:
        """The attribute's value in version 5."""
        valid = _VALID_ATTRIBUTES | (_VALID_CREATION_TIME if self.creation_time else 0)
        value = _HEAD.pack(0, _VERSION_5, _VERSION_5, 0) + _BODY_5.pack(
            valid, self.attributes, self.creation_time
        )
        if self.change_time:
            value += _CHANGE.pack(self.change_time, self.changed_at_ns)
        return value

    @classmethod
    def parse(cls, value: bytes) -> DosAttributes | None:
        """None for a value of a form that is not known; the file then counts as having none."""
        end = value.find(b"\0") + 1  # older versions wrote the attributes as text first ("0x20")
        version_at = end + end % 2
        body_at = (version_at + 4 + 3) & ~3
        if end == 0 or len(value) < body_at:
            return None
        version, switch = struct.unpack_from("<HH", value, version_at)
        body = value[body_at:]
        if version != switch:
            return None
        change = (0, 0)
        if version == _VERSION_5 and len(body) >= _BODY_5.size:
            valid, attributes, creation = _BODY_5.unpack_from(body)
            if len(body) >= _BODY_5.size + _CHANGE.size:
                change = _CHANGE.unpack_from(body, _BODY_5.size)
        elif version == 4 and len(body) >= _BODY_4.size:
            valid, attributes, _, creation = _BODY_4.unpack_from(body)
        elif version == 3 and len(body) >= _BODY_3.size:
            valid, attributes, _, _, _, creation, _ = _BODY_3.unpack_from(body)
        else:
            return None
        return cls(
            attributes & STORED if valid & _VALID_ATTRIBUTES else 0,
            creation if valid & _VALID_CREATION_TIME else 0,
            *change,
        )


def read_dos_attributes(target: int | str) -> DosAttributes | None:
    """Of a descriptor or path; None when the file has none or its file system cannot hold any."""
    try:
        return DosAttributes.parse(os.getxattr(target, XATTR))
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return None


def write_dos_attributes(target: int | str, attributes: DosAttributes) -> bool:
    """False when the file system cannot hold them: the file then has what its mode says."""
    try:
        os.setxattr(target, XATTR, attributes.pack())
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return False
    return True
