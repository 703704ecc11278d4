"""What is known of a file besides its data: the operating system's facts and the DOS attributes as one."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from smbserver.vfs import dos_attributes as dos
from smbserver.wire.filetime import from_unix_ns

CHANGE_TOLERANCE_NS = 10_000_000
"""How much later than a client's setting of ChangeTime a file may seem to have been changed by that very setting."""

_BLOCK = 512
"""Bytes per unit of st_blocks."""


@dataclass(slots=True)
class Metadata:
    """Times are FILETIME, sizes bytes. Not frozen, because one is made for every entry of a listing."""

    is_directory: bool
    inode: int
    links: int
    size: int
    allocation: int
    attributes: int
    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int


def metadata_of(
    facts: os.stat_result, stored: dos.DosAttributes | None, hidden: bool = False
) -> Metadata:
    """Joins stat and extended attribute; `hidden`: the name alone hides it."""
    is_directory = stat.S_ISDIR(facts.st_mode)
    attributes = stored.attributes if stored is not None else 0
    if hidden:
        attributes |= dos.HIDDEN
    if is_directory:
        attributes |= dos.DIRECTORY
    last_write_time = from_unix_ns(facts.st_mtime_ns)
    creation_time = stored.creation_time if stored is not None else 0
    if not creation_time:
        creation_time = from_unix_ns(min(facts.st_mtime_ns, facts.st_ctime_ns, facts.st_atime_ns))
    change_time = from_unix_ns(facts.st_ctime_ns)
    if stored is not None and stored.change_time:
        later = facts.st_ctime_ns - stored.changed_at_ns
        if 0 <= later <= CHANGE_TOLERANCE_NS:
            change_time = stored.change_time
    return Metadata(
        is_directory=is_directory,
        inode=facts.st_ino,
        links=facts.st_nlink if not is_directory else 1,
        size=0 if is_directory else facts.st_size,
        allocation=0 if is_directory else facts.st_blocks * _BLOCK,
        attributes=attributes or dos.NORMAL,
        creation_time=creation_time,
        last_access_time=from_unix_ns(facts.st_atime_ns),
        last_write_time=last_write_time,
        change_time=change_time,
    )
