"""Short names (8.3) for programs that want one ([MS-FSCC] 2.1.5.2.1, 2.4.5).

A name that is a short one already is its own. Others get a short name that depends on nothing but themselves, so
that nothing has to be kept; who asks for it finds the file by looking at the names of the directory. Which long names
were shortened lately is remembered all the same: a program that deletes a file and makes it again by its short name
means the long one.

Names that no client could write, because they hold a reserved character, are shown by their short names only.
"""

from __future__ import annotations

import functools
import re
import zlib

from smbserver.vfs.names import fold, is_shown

_CHARACTERS = r"[A-Z0-9!#$%&'()\-@^_`{}~]"
_SHORT = re.compile(rf"{_CHARACTERS}{{1,8}}(\.{_CHARACTERS}{{1,3}})?")
_MADE = re.compile(rf"{_CHARACTERS}{{6}}~[0-9A-Z](\.{_CHARACTERS}{{1,3}})?")
_NOT_KEPT = re.compile(r"[^A-Z0-9_\-]")

MAX_REMEMBERED = 65536
"""Long names that are remembered, a few MiB at most; who writes by short names does so at once."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KEPT = 1
"""Characters of the long name that stay; the other five and the one behind `~` are its hash."""


_long_names: dict[str, str] = {}


@functools.lru_cache(maxsize=4096)
def short_name(name: str) -> str:
    """The short name of a file; the directories `.` and `..` have none."""
    if name in (".", ".."):
        return ""
    folded = fold(name)
    if _SHORT.fullmatch(folded):
        return folded
    base, _, extension = folded.rpartition(".")
    if not base.strip("."):
        base, extension = folded, ""
    kept = _NOT_KEPT.sub("", base)[:_KEPT] or "_"
    extension = _NOT_KEPT.sub("", extension)[:3]
    number = zlib.crc32(folded.encode("utf-8", "surrogatepass"))
    digits = ""
    for _ in range(8 - _KEPT - 1):
        number, digit = divmod(number, len(_DIGITS))
        digits += _DIGITS[digit]
    short = f"{kept}{digits[:-1]}~{digits[-1]}" + (f".{extension}" if extension else "")
    if len(_long_names) >= MAX_REMEMBERED:
        del _long_names[next(iter(_long_names))]
    _long_names[short] = name
    return short


def shown_name(name: str) -> str:
    """What a client is told: the short name where it could not write the real one."""
    return name if is_shown(name) else short_name(name)


def long_name(short: str) -> str | None:
    """The name that was shortened to this one, if that is not too long ago."""
    return _long_names.get(fold(short))


def may_be_made(name: str) -> bool:
    """Whether a client's name looks like one that `short_name` has made."""
    return "~" in name and _MADE.fullmatch(fold(name)) is not None
