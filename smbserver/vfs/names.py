"""Names as clients write them: `folder\\file:stream:$DATA` ([MS-FSCC] 2.1.5, 2.1.6)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from smbserver.wire.status import NtStatus, StatusError

MAX_COMPONENT_BYTES = 255
"""NAME_MAX of Linux file systems, in bytes of UTF-8."""

QUOTA_STREAM = "$Q"
"""The only stream that is an index and is opened as one: of the file that stands for a volume's quotas."""

_REFUSED = re.compile(r'[\x00-\x1f"*/<>?|]')
"""Characters of wildcards and of other systems' paths; `:` parts streams and is looked at apart."""

_REFUSED_IN_STREAM = re.compile(r"[\x00/]")
"""`\\` and `:` cannot get there ([MS-FSCC] 2.1.5.3)."""


@dataclass(frozen=True, slots=True)
class ShareName:
    """A name below a share, taken apart and free of anything that could mean another place."""

    components: tuple[str, ...]
    """From the share's root down; empty for the root itself."""

    stream: str = ""
    """The alternate data stream; empty for the file's own data."""

    must_be: str = ""
    """`directory` for `name::$INDEX_ALLOCATION`, `file` for `name::$DATA`; empty where the name leaves it open."""


def parse_name(name: str) -> ShareName:
    """Takes a name of CREATE, rename or link apart; refuses what no file can be called.

    `/` parts folders too, and `..` leads up, as far as the share's root, as with Samba: some clients send them.
    """
    name = name.replace("/", "\\")
    if name.startswith("\\"):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    folder, _separator, last = name.rpartition("\\")
    base, stream, must_be = _split_stream(last)
    if ":" in folder:
        raise StatusError(NtStatus.OBJECT_NAME_INVALID)
    components: list[str] = []
    for part in (*folder.split("\\"), base):
        if part == "..":
            if not components:
                raise StatusError(NtStatus.OBJECT_PATH_SYNTAX_BAD)
            components.pop()
        elif part:
            check_component(part)
            components.append(part)
    return ShareName(tuple(components), stream, must_be)


def check_component(part: str) -> None:
    """Refuses `.`, reserved characters, and what does not fit into a Linux directory entry."""
    if part == "." or not is_shown(part):
        raise StatusError(NtStatus.OBJECT_NAME_INVALID)


def is_shown(part: str) -> bool:
    """Whether an entry of a directory can be named by a client at all; others stay unlisted."""
    if _REFUSED.search(part) or ":" in part or "\\" in part:
        return False
    if part.isascii():
        return len(part) <= MAX_COMPONENT_BYTES
    try:
        return len(part.encode()) <= MAX_COMPONENT_BYTES
    except UnicodeEncodeError:  # a lone surrogate, from the wire or from bytes that are not UTF-8
        return False


def _split_stream(last: str) -> tuple[str, str, str]:
    base, *rest = last.split(":")
    if not rest:
        return base, "", ""
    stream = rest[0]
    kind = rest[1].upper() if len(rest) > 1 else "$DATA"
    if len(rest) > 2 or (len(rest) == 1 and not stream) or _REFUSED_IN_STREAM.search(stream):
        raise StatusError(NtStatus.OBJECT_NAME_INVALID)
    if kind == "$INDEX_ALLOCATION" and stream.upper() in ("", "$I30"):
        return base, "", "directory"
    if kind == "$INDEX_ALLOCATION" and stream.upper() == QUOTA_STREAM:
        return base, QUOTA_STREAM, ""
    if kind != "$DATA" or not is_encodable(stream):
        raise StatusError(NtStatus.OBJECT_NAME_INVALID)
    return base, stream, "" if stream else "file"


def is_encodable(text: str) -> bool:
    """False for text with lone surrogates, which no Linux name can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fold(name: str) -> str:
    """The form in which two names are the same name: upper case, one character for one ([MS-FSA] 2.1.4.4).

    Python's own folding maps one character to several (sharp s to "SS") and would make different names equal.
    """
    if name.isascii():
        return name.upper()
    return "".join(
        upper if len(upper) == 1 else character
        for character, upper in ((character, character.upper()) for character in name)
    )
