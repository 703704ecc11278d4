"""What a share's file system says of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass

SECTOR_SIZE = 512
"""Bytes per sector as told to clients; every allocation unit is a multiple of it."""


@dataclass(frozen=True, slots=True)
class Volume:
    """Sizes of the file system below a share, in allocation units."""

    serial_number: int
    creation_time_ns: int
    unit_size: int
    """Bytes per allocation unit, a multiple of `SECTOR_SIZE`."""
    total_units: int
    free_units: int
    """Free in all, what is reserved for root included."""
    available_units: int
    """Free for the caller."""
    max_name_length: int

    @property
    def sectors_per_unit(self) -> int:
        """Allocation units count in sectors on the wire."""
        return self.unit_size // SECTOR_SIZE


def volume_of(folder: int) -> Volume:
    """Asks the file system of an open folder."""
    space = os.fstatvfs(folder)
    facts = os.fstat(folder)
    scale = 1 if space.f_frsize % SECTOR_SIZE == 0 else SECTOR_SIZE
    unit = space.f_frsize * scale
    return Volume(
        serial_number=(facts.st_dev * 0x9E3779B1) & 0xFFFFFFFF,
        creation_time_ns=min(facts.st_mtime_ns, facts.st_ctime_ns),
        unit_size=unit,
        total_units=space.f_blocks // scale,
        free_units=space.f_bfree // scale,
        available_units=space.f_bavail // scale,
        max_name_length=space.f_namemax,
    )
