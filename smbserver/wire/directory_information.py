"""Entries of QUERY_DIRECTORY in every information class ([MS-FSCC] 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any

from smbserver.wire.bounds import Buffer, Malformed, padding, utf16_decode, utf16_encode
from smbserver.wire.file_information import FileInformationClass
from smbserver.wire.information import counted_name, split_entries

_NEXT = Struct("<I")
_NAMES = Struct("<III")
_DIRECTORY = Struct("<IIqqqqqqII")
_FULL = Struct("<IIqqqqqqIII")
_ID_FULL = Struct("<IIqqqqqqIII4xQ")
_BOTH = Struct("<IIqqqqqqIIIBx24s")
_ID_BOTH = Struct("<IIqqqqqqIIIBx24s2xQ")
_ID_EXTD = Struct("<IIqqqqqqIIIIQQ")

SHORT_NAME_BYTES = 24
"""Room for the short name: 12 characters, 8.3."""


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One name in a directory, with all that any class tells of it."""

    file_name: str
    creation_time: int = 0
    last_access_time: int = 0
    last_write_time: int = 0
    change_time: int = 0
    end_of_file: int = 0
    allocation_size: int = 0
    file_attributes: int = 0
    ea_size: int = 0
    """Size of the extended attributes; of a reparse point, its tag."""
    file_id: int = 0
    short_name: str = ""
    file_index: int = 0
    reparse_point_tag: int = 0


def pack_entry(information_class: int, entry: DirectoryEntry) -> bytes:
    """One entry with NextEntryOffset 0; `DirectoryBuffer` chains them."""
    name = utf16_encode(entry.file_name)
    common = (
        0,
        entry.file_index,
        entry.creation_time,
        entry.last_access_time,
        entry.last_write_time,
        entry.change_time,
        entry.end_of_file,
        entry.allocation_size,
        entry.file_attributes,
        len(name),
    )
    return _PACK[information_class](entry, common) + name


_Common = tuple[int, ...]


def _pack_names(entry: DirectoryEntry, common: _Common) -> bytes:
    return _NAMES.pack(0, entry.file_index, common[-1])


def _pack_directory(entry: DirectoryEntry, common: _Common) -> bytes:
    return _DIRECTORY.pack(*common)


def _pack_full(entry: DirectoryEntry, common: _Common) -> bytes:
    return _FULL.pack(*common, entry.ea_size)


def _pack_id_full(entry: DirectoryEntry, common: _Common) -> bytes:
    return _ID_FULL.pack(*common, entry.ea_size, entry.file_id)


def _pack_both(entry: DirectoryEntry, common: _Common) -> bytes:
    short = utf16_encode(entry.short_name)[:SHORT_NAME_BYTES]
    return _BOTH.pack(*common, entry.ea_size, len(short), short)


def _pack_id_both(entry: DirectoryEntry, common: _Common) -> bytes:
    short = utf16_encode(entry.short_name)[:SHORT_NAME_BYTES]
    return _ID_BOTH.pack(*common, entry.ea_size, len(short), short, entry.file_id)


def _pack_id_extd(entry: DirectoryEntry, common: _Common) -> bytes:
    return _ID_EXTD.pack(*common, entry.ea_size, entry.reparse_point_tag, entry.file_id, 0)


_PACK: dict[int, Callable[[DirectoryEntry, _Common], bytes]] = {
    FileInformationClass.FILE_NAMES: _pack_names,
    FileInformationClass.FILE_DIRECTORY: _pack_directory,
    FileInformationClass.FILE_FULL_DIRECTORY: _pack_full,
    FileInformationClass.FILE_ID_FULL_DIRECTORY: _pack_id_full,
    FileInformationClass.FILE_BOTH_DIRECTORY: _pack_both,
    FileInformationClass.FILE_ID_BOTH_DIRECTORY: _pack_id_both,
    FileInformationClass.FILE_ID_EXTD_DIRECTORY: _pack_id_extd,
}

_LAYOUTS: dict[int, Struct] = {
    FileInformationClass.FILE_NAMES: _NAMES,
    FileInformationClass.FILE_DIRECTORY: _DIRECTORY,
    FileInformationClass.FILE_FULL_DIRECTORY: _FULL,
    FileInformationClass.FILE_ID_FULL_DIRECTORY: _ID_FULL,
    FileInformationClass.FILE_BOTH_DIRECTORY: _BOTH,
    FileInformationClass.FILE_ID_BOTH_DIRECTORY: _ID_BOTH,
    FileInformationClass.FILE_ID_EXTD_DIRECTORY: _ID_EXTD,
}

CLASSES = frozenset(_LAYOUTS)
"""The information classes that QUERY_DIRECTORY can be asked for."""


def minimum_size(information_class: int) -> int:
    """Bytes of the fixed part: an output buffer below that is refused."""
    return _LAYOUTS[information_class].size


class DirectoryBuffer:
    """Gathers entries for one response, up to the client's OutputBufferLength."""

    def __init__(self, information_class: int, limit: int) -> None:
        self._information_class = information_class
        self._limit = limit
        self._buffer = bytearray()
        self._last = 0
        self.count = 0
        """Entries taken."""

    def add(self, entry: DirectoryEntry) -> bool:
        """Takes the entry, or says that it has no room in this response."""
        packed = pack_entry(self._information_class, entry)
        gap = padding(len(self._buffer))
        if len(self._buffer) + len(gap) + len(packed) > self._limit:
            return False
        self._buffer += gap
        if self.count:
            _NEXT.pack_into(self._buffer, self._last, len(self._buffer) - self._last)
        self._last = len(self._buffer)
        self._buffer += packed
        self.count += 1
        return True

    def pack(self) -> bytes:
        return bytes(self._buffer)


def parse_entries(information_class: int, buffer: Buffer) -> list[DirectoryEntry]:
    """The entries of a response."""
    layout = _LAYOUTS[information_class]
    return [
        _parse_entry(information_class, layout, raw)
        for raw in split_entries(buffer, layout.size, "directory entry")
    ]


def _parse_entry(information_class: int, layout: Struct, raw: memoryview) -> DirectoryEntry:
    fields = layout.unpack_from(raw)
    if information_class == FileInformationClass.FILE_NAMES:
        return DirectoryEntry(
            counted_name(raw, layout.size, fields[2], "FileName"), file_index=fields[1]
        )
    _, index, created, accessed, written, changed, end, allocation, attributes, length = fields[:10]
    return DirectoryEntry(
        counted_name(raw, layout.size, length, "FileName"),
        created,
        accessed,
        written,
        changed,
        end,
        allocation,
        attributes,
        file_index=index,
        **_parse_tail(information_class, fields[10:]),
    )


def _parse_tail(information_class: int, tail: tuple[Any, ...]) -> dict[str, Any]:
    match information_class:
        case FileInformationClass.FILE_FULL_DIRECTORY:
            return {"ea_size": tail[0]}
        case FileInformationClass.FILE_ID_FULL_DIRECTORY:
            return {"ea_size": tail[0], "file_id": tail[1]}
        case FileInformationClass.FILE_BOTH_DIRECTORY:
            return {"ea_size": tail[0], "short_name": _short_name(tail)}
        case FileInformationClass.FILE_ID_BOTH_DIRECTORY:
            return {"ea_size": tail[0], "short_name": _short_name(tail), "file_id": tail[3]}
        case FileInformationClass.FILE_ID_EXTD_DIRECTORY:
            return {"ea_size": tail[0], "reparse_point_tag": tail[1], "file_id": tail[2]}
    return {}


def _short_name(tail: tuple[Any, ...]) -> str:
    _, length, raw = tail[:3]
    if length > SHORT_NAME_BYTES:
        raise Malformed(f"ShortNameLength {length}, there is room for {SHORT_NAME_BYTES}")
    return utf16_decode(raw[:length], "ShortName")
