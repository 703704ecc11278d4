"""The kinds of values that parameters have: each is read from smb.conf, and written as smb.conf has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class BadValue(ValueError):
    """A value that does not fit its parameter; the sentence says what would."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is read and written."""

    parse: Callable[[str], Any]
    """Raises BadValue."""
    spell: Callable[[Any], str]
    """What `parse` would make the same value of."""
    allowed: str
    """What may stand there, as the manual says it."""


def _parse_boolean(value: str) -> bool:
    word = value.lower()
    if word in ("yes", "true", "1", "on"):
        return True
    if word in ("no", "false", "0", "off"):
        return False
    raise BadValue(f"{value!r} is neither yes nor no")


def _parse_octal(value: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise BadValue(f"{value!r} is no octal number") from None


def _parse_number(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise BadValue(f"{value!r} is no number")
    return int(value)


_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _parse_size(value: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMG]?)B?", value.strip(), re.IGNORECASE)
    if not match:
        raise BadValue(f"{value!r} is no number, nor one followed by K, M or G")
    return int(match[1]) * _SIZE_UNITS[match[2].upper()]


def _spell_size(value: int) -> str:
    for unit, factor in reversed(_SIZE_UNITS.items()):
        if value and unit and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)


def _parse_names(value: str) -> tuple[str, ...]:
    members = re.findall(r'"([^"]*)"|([^\s,]+)', value)
    return tuple(quoted or plain for quoted, plain in members)


def _spell_names(value: Iterable[str]) -> str:
    return ", ".join(f'"{one}"' if re.search(r"[\s,]", one) else one for one in value)


def _parse_paths(value: str) -> tuple[str, ...]:
    return tuple(part for part in value.split("/") if part)


def _spell_paths(value: Iterable[str]) -> str:
    joined = "/".join(value)
    return f"/{joined}/" if joined else ""


def choice(**spellings: str) -> Kind:
    """One of some words; `spellings` gives other words for them, separated by blanks."""
    canonical = {word: name for name, words in spellings.items() for word in (name, *words.split())}

    def parse(value: str) -> str:
        try:
            return canonical[value.lower().replace(" ", "_")]
        except KeyError:
            raise BadValue(f"{value!r} is none of {', '.join(sorted(spellings))}") from None

    return Kind(parse, str, " | ".join(spellings))


text = Kind(str, str, "text")
"""As it stands."""

boolean = Kind(_parse_boolean, lambda value: "yes" if value else "no", "yes | no")

octal = Kind(_parse_octal, "{:04o}".format, "octal number")
"""File permission bits."""

number = Kind(_parse_number, str, "number")

size = Kind(_parse_size, _spell_size, "number, also with K, M or G for powers of 1024")

names = Kind(
    _parse_names, _spell_names, 'list, by commas or blanks; "quotes" keep these inside a member'
)

paths = Kind(_parse_paths, _spell_paths, "/list/between/slashes/")
"""As `veto files` has it."""

dialect = choice(
    smb2_02="smb2",
    smb2_10="smb2_1",
    smb3_00="smb3_0",
    smb3_02="",
    smb3_11="smb3 default",
)
"""A dialect in Samba's spelling."""

encryption = choice(
    off="no false disabled",
    if_required="default auto enabled yes true",
    desired="",
    required="mandatory",
)

signing = choice(
    default="auto yes true enabled desired if_required",
    required="mandatory",
    off="no false disabled",
)
