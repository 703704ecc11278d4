"""The response that QUERY_INFO, QUERY_DIRECTORY and CHANGE_NOTIFY share: one buffer."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Self

from smbserver.wire.bounds import HEADER_SIZE, Buffer, slice_at, unpack_body

_LAYOUT = Struct("<HHI")
_END = HEADER_SIZE + _LAYOUT.size


@dataclass(frozen=True, slots=True)
class OutputBufferResponse:
    """A response whose whole content is OutputBuffer."""

    output_buffer: Buffer = b""

    @classmethod
    def parse(cls, message: Buffer) -> Self:
        offset, length = unpack_body(_LAYOUT, message, 9, cls.__name__)
        return cls(slice_at(message, offset, length, _END, "OutputBuffer"))

    def pack(self) -> bytes:
        data = bytes(self.output_buffer)
        return _LAYOUT.pack(9, _END if data else 0, len(data)) + data
