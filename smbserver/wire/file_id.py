"""The name of an open ([MS-SMB2] 2.2.14.1)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from smbserver.wire.bounds import Buffer, unpack_from

_LAYOUT = Struct("<QQ")


class FileId(NamedTuple):
    """SMB2_FILEID. `ALL_ONES` in a related request means the open of the request before it."""

    persistent: int
    volatile: int

    @classmethod
    def at(cls, message: Buffer, offset: int) -> FileId:
        """The FileId that stands at an offset of a message."""
        return cls._make(unpack_from(_LAYOUT, message, offset, "FileId"))

    @property
    def is_all_ones(self) -> bool:
        return self == ALL_ONES


ALL_ONES = FileId(0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
