"""Taking fields out of a message without ever leaving it."""

from __future__ import annotations

from struct import Struct
from typing import Any

Buffer = bytes | bytearray | memoryview
"""What messages are read from and written to."""

HEADER_SIZE = 64
"""Bytes of the SMB2 header ([MS-SMB2] 2.2.1): bodies begin there, offsets count from its start."""


class Malformed(ValueError):
    """A message that does not obey the specification; the sentence says where."""


def unpack_body(layout: Struct, message: Buffer, structure_size: int, name: str) -> tuple[Any, ...]:
    """The fixed part of the body, without StructureSize, which is checked and must come first."""
    if len(message) < HEADER_SIZE + layout.size:
        raise Malformed(
            f"{name} has {len(message) - HEADER_SIZE} bytes behind the header, "
            f"its fixed part needs {layout.size}"
        )
    fields = layout.unpack_from(message, HEADER_SIZE)
    if fields[0] != structure_size:
        raise Malformed(f"{name} has StructureSize {fields[0]} instead of {structure_size}")
    return fields[1:]


def unpack_from(layout: Struct, buffer: Buffer, offset: int, name: str) -> tuple[Any, ...]:
    """The fields of a structure at an offset of a buffer."""
    if offset < 0 or offset + layout.size > len(buffer):
        raise Malformed(
            f"{name} needs {layout.size} bytes at offset {offset}, there are {len(buffer)} in all"
        )
    return layout.unpack_from(buffer, offset)


def slice_at(message: Buffer, offset: int, length: int, least: int, name: str) -> memoryview:
    """The buffer that a message names by offset and length; an empty one may have any offset.

    `least` is where the fixed part ends: a buffer that begins before it overlaps other fields.
    """
    if length == 0:
        return memoryview(b"")
    if offset < least or offset + length > len(message):
        raise Malformed(
            f"{name}: {length} bytes at offset {offset} are not inside "
            f"bytes {least} to {len(message)} of the message"
        )
    return memoryview(message)[offset : offset + length]


def utf16_decode(buffer: Buffer, name: str) -> str:
    """A string. Lone surrogates pass: they carry file names that are not valid UTF-8."""
    if len(buffer) % 2:
        raise Malformed(f"{name} has {len(buffer)} bytes, UTF-16 needs an even number")
    return bytes(buffer).decode("utf-16-le", "surrogatepass")


def utf16_encode(text: str) -> bytes:
    """A string as the wire has it, without a terminating zero."""
    return text.encode("utf-16-le", "surrogatepass")


def padding(length: int, alignment: int = 8) -> bytes:
    """The zero bytes that bring a length to a multiple of the alignment."""
    return bytes(-length % alignment)
