"""What information structures of [MS-FSCC] 2.4 and 2.5 share: fixed layouts and chained entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import ClassVar, Self

from smbserver.wire.bounds import Buffer, Malformed, padding, slice_at, unpack_from, utf16_decode

_NEXT = Struct("<I")


class FixedInformation:
    """A structure without variable parts: the fields of the dataclass are those of `LAYOUT`."""

    __slots__: tuple[str, ...] = ()
    LAYOUT: ClassVar[Struct]

    @classmethod
    def parse(cls, buffer: Buffer) -> Self:
        return cls(*unpack_from(cls.LAYOUT, buffer, 0, cls.__name__))

    def pack(self) -> bytes:
        return self.LAYOUT.pack(*(getattr(self, field) for field in self.__slots__))


def counted_name(buffer: Buffer, offset: int, length: int, name: str) -> str:
    """A string whose length in bytes stands before it."""
    return utf16_decode(slice_at(buffer, offset, length, 0, name), name)


def split_entries(buffer: Buffer, least: int, name: str) -> Iterator[memoryview]:
    """The entries of a list that is chained by NextEntryOffset, each with its padding."""
    rest = memoryview(buffer)
    while rest:
        if len(rest) < least:
            raise Malformed(f"{name} of {len(rest)} bytes, at least {least} are needed")
        (step,) = _NEXT.unpack_from(rest)
        if step and (step < least or step >= len(rest)):
            raise Malformed(f"{name} with NextEntryOffset {step}, {len(rest)} bytes are left")
        yield rest[:step] if step else rest
        rest = rest[step:] if step else rest[:0]


def join_entries(entries: Iterable[bytes], alignment: int = 8) -> bytes:
    """Chains entries whose NextEntryOffset, their first field, is still 0."""
    packed: list[bytes] = []
    waiting = b""
    for entry in entries:
        if waiting:
            padded = waiting + padding(len(waiting), alignment)
            packed += (_NEXT.pack(len(padded)), padded[_NEXT.size :])
        waiting = entry
    packed.append(waiting)
    return b"".join(packed)
