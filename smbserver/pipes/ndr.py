"""NDR as three calls need it ([C706] chapter 14): numbers, pointers, conformant varying strings.

An own encoder of a page: the libraries that know NDR bring a client's world with them, and no server side.
"""

from __future__ import annotations

import struct

from smbserver.wire.bounds import Buffer, Malformed, slice_at, utf16_decode, utf16_encode

_U32 = struct.Struct("<I")
_STRING = struct.Struct("<III")

MAX_TEXT = 1024
"""Characters of a server's or share's name; those of Windows have 80 at most."""


class Reader:
    """Takes arguments out of a request."""

    def __init__(self, stub: Buffer) -> None:
        self._stub = memoryview(stub)
        self._at = 0

    def number(self) -> int:
        value: int = _U32.unpack(slice_at(self._stub, self._at, 4, 0, "number"))[0]
        self._at += 4
        return value

    def text(self) -> str:
        _, _, length = _STRING.unpack(slice_at(self._stub, self._at, 12, 0, "string"))
        if length > MAX_TEXT:
            raise Malformed(f"a string of {length} characters where {MAX_TEXT} are the most")
        raw = slice_at(self._stub, self._at + 12, 2 * length, 0, "string")
        self._at += 12 + (2 * length + 3 & ~3)
        return utf16_decode(raw, "string").rstrip("\0")

    def optional_text(self) -> str:
        return self.text() if self.number() else ""


class Writer:
    """Puts results together: what pointers lead to follows when the structure is done."""

    def __init__(self) -> None:
        self.data = b""
        self._deferred = b""
        self._pointers = 0

    def number(self, *values: int) -> None:
        for value in values:
            self.data += _U32.pack(value)

    def pointer(self) -> None:
        self._pointers += 1
        self.number(0x00020000 + 4 * self._pointers)

    def text(self, text: str) -> None:
        """A pointer to a string."""
        self.pointer()
        raw = utf16_encode(text + "\0")
        count = len(raw) // 2
        self._deferred += _STRING.pack(count, 0, count) + raw + bytes(-len(raw) % 4)

    def follow(self) -> None:
        """The strings of the structures so far."""
        self.data += self._deferred
        self._deferred = b""
