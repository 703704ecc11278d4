"""FILETIME: 100-nanosecond steps since 1601 ([MS-DTYP] 2.3.3)."""

from __future__ import annotations

import time

_UNIX_EPOCH = 116_444_736_000_000_000
"""1970 in FILETIME."""

MAX = 0x7FFFFFFFFFFFFFFF
"""The last FILETIME; larger ones are negative on the wire and mean something else."""


def from_unix_ns(nanoseconds: int) -> int:
    """A Unix time in nanoseconds as FILETIME; what lies before 1601 becomes 0."""
    return min(max(nanoseconds // 100 + _UNIX_EPOCH, 0), MAX)


def to_unix_ns(filetime: int) -> int:
    """A FILETIME as Unix time in nanoseconds."""
    return (filetime - _UNIX_EPOCH) * 100


def now() -> int:
    """This moment."""
    return from_unix_ns(time.time_ns())
