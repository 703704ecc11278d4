"""FLUSH: what was written is to be on disk ([MS-SMB2] 2.2.17, 2.2.18)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from smbserver.wire.bounds import Buffer, unpack_body
from smbserver.wire.empty import EmptyBody
from smbserver.wire.file_id import FileId

_REQUEST = Struct("<HHIQQ")


@dataclass(frozen=True, slots=True)
class FlushRequest:
    """SMB2 FLUSH Request ([MS-SMB2] 2.2.17)."""

    file_id: FileId

    @classmethod
    def parse(cls, message: Buffer) -> FlushRequest:
        _, _, persistent, volatile = unpack_body(_REQUEST, message, 24, "FLUSH request")
        return cls(FileId(persistent, volatile))

    def pack(self) -> bytes:
        return _REQUEST.pack(24, 0, 0, *self.file_id)


class FlushResponse(EmptyBody):
    """SMB2 FLUSH Response ([MS-SMB2] 2.2.18)."""

    __slots__ = ()
