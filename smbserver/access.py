"""Access masks: what a client asks for, what it may have ([MS-SMB2] 2.2.13.1, [MS-DTYP] 2.4.3).

Plain numbers: operations with IntFlag members cost more than all else on the way of a small READ.
"""

from __future__ import annotations

import os

from smbserver.wire.status import NtStatus, StatusError

READ_DATA = 0x00000001
WRITE_DATA = 0x00000002
APPEND_DATA = 0x00000004
READ_EA = 0x00000008
WRITE_EA = 0x00000010
EXECUTE = 0x00000020
DELETE_CHILD = 0x00000040
READ_ATTRIBUTES = 0x00000080
WRITE_ATTRIBUTES = 0x00000100
DELETE = 0x00010000
READ_CONTROL = 0x00020000
WRITE_DAC = 0x00040000
WRITE_OWNER = 0x00080000
SYNCHRONIZE = 0x00100000
ACCESS_SYSTEM_SECURITY = 0x01000000
MAXIMUM_ALLOWED = 0x02000000
GENERIC_ALL = 0x10000000
GENERIC_EXECUTE = 0x20000000
GENERIC_WRITE = 0x40000000
GENERIC_READ = 0x80000000

LIST_DIRECTORY = READ_DATA

ALL = 0x001F01FF
"""FILE_ALL_ACCESS."""
READING = READ_DATA | EXECUTE
"""Either lets READ through ([MS-SMB2] 3.3.5.12)."""
WRITING = WRITE_DATA | APPEND_DATA
"""Either lets WRITE through ([MS-SMB2] 3.3.5.13)."""

_GENERIC = (
    (GENERIC_READ, 0x00120089),
    (GENERIC_WRITE, 0x00120116),
    (GENERIC_EXECUTE, 0x001200A0),
    (GENERIC_ALL, ALL),
)
_RESERVED = 0x0CE0FE00

MODIFYING = WRITING | WRITE_EA | WRITE_ATTRIBUTES | DELETE | DELETE_CHILD | WRITE_DAC | WRITE_OWNER
"""What a read-only file or share does not give."""


def file_rights(mask: int) -> int:
    """A mask with generic rights in terms of the rights of files."""
    for generic, rights in _GENERIC:
        if mask & generic:
            mask = (mask & ~generic) | rights
    return mask


def expand(desired: int) -> int:
    """Generic rights in terms of the rights of files; MAXIMUM_ALLOWED stays for `grant`."""
    if desired == 0 or desired & _RESERVED:
        raise StatusError(NtStatus.ACCESS_DENIED)
    return file_rights(desired)


def grant(desired: int, maximal: int) -> int:
    """All that was asked for, or a refusal; of MAXIMUM_ALLOWED all that there is."""
    if desired & MAXIMUM_ALLOWED:
        desired = (desired & ~MAXIMUM_ALLOWED) | maximal
    if desired & ~maximal:
        raise StatusError(NtStatus.ACCESS_DENIED)
    return desired


def open_flags(granted: int) -> int | None:
    """How open(2) must open a file for these rights; None: its data is not touched."""
    if granted & WRITING:
        return os.O_RDWR if granted & READING else os.O_WRONLY
    return os.O_RDONLY if granted & READING else None
