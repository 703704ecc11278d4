"""Alternate data streams in extended attributes, as Samba's streams_xattr keeps them.

The attribute `user.DosStream.NAME:$DATA` holds the stream's bytes and one zero byte.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from smbserver.vfs.names import fold

_PREFIX = "user.DosStream."
_SUFFIX = ":$DATA"
TERMINATOR = b"\0"


def attribute_of(stream: str) -> str:
    """The extended attribute that holds a stream."""
    return f"{_PREFIX}{stream}{_SUFFIX}"


def stream_names(target: int | str) -> Iterator[str]:
    """The names of a file's alternate data streams, without type."""
    try:
        attributes = os.listxattr(target)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return
    for attribute in attributes:
        if attribute.startswith(_PREFIX) and attribute.endswith(_SUFFIX):
            yield attribute[len(_PREFIX) : -len(_SUFFIX)]


def find_stream(target: int | str, wanted: str) -> str | None:
    """The stored spelling of a stream's name."""
    folded = fold(wanted)
    return next((name for name in stream_names(target) if fold(name) == folded), None)


def stream_size(target: int | str, stream: str) -> int:
    """Bytes in a stream."""
    return max(len(os.getxattr(target, attribute_of(stream))) - len(TERMINATOR), 0)
