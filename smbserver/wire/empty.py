"""Bodies that say nothing: a StructureSize of 4 and two reserved bytes."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Self

from smbserver.wire.bounds import Buffer, unpack_body

_LAYOUT = Struct("<HH")
_PACKED = _LAYOUT.pack(4, 0)


@dataclass(frozen=True, slots=True)
class EmptyBody:
    """What LOGOFF, TREE_DISCONNECT, ECHO, CANCEL and some responses are made of."""

    @classmethod
    def parse(cls, message: Buffer) -> Self:
        unpack_body(_LAYOUT, message, 4, cls.__name__)
        return cls()

    def pack(self) -> bytes:
        return _PACKED
