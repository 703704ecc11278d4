"""What goes wrong: `Malformed` messages, and the body of error responses ([MS-SMB2] 2.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from smbserver.wire.bounds import HEADER_SIZE, Buffer, Malformed, unpack_body

__all__ = ["ErrorResponse", "Malformed"]

_LAYOUT = Struct("<HBBI")


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """SMB2 ERROR Response ([MS-SMB2] 2.2.2)."""

    error_data: Buffer = b""
    """One structure, or, if `error_context_count` is not 0, a list of error contexts."""
    error_context_count: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> ErrorResponse:
        count, _, length = unpack_body(_LAYOUT, message, 9, "ERROR response")
        start = HEADER_SIZE + _LAYOUT.size
        if length > len(message) - start:
            raise Malformed(
                f"ERROR response names {length} bytes, {len(message) - start} are there"
            )
        return cls(memoryview(message)[start : start + length], count)

    def pack(self) -> bytes:
        # StructureSize is 9: one byte of ErrorData is always there ([MS-SMB2] 2.2.2).
        data = bytes(self.error_data)
        return _LAYOUT.pack(9, self.error_context_count, 0, len(data)) + (data or b"\0")
