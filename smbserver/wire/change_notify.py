"""CHANGE_NOTIFY: word of changes in a directory ([MS-SMB2] 2.2.35, 2.2.36; [MS-FSCC] 2.7.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct

from smbserver.wire.bounds import (
    Buffer,
    Malformed,
    padding,
    slice_at,
    unpack_body,
    unpack_from,
    utf16_decode,
    utf16_encode,
)
from smbserver.wire.file_id import FileId
from smbserver.wire.output_buffer import OutputBufferResponse

_REQUEST = Struct("<HHIQQII")
_ENTRY = Struct("<III")


class ChangeNotifyFlags(IntFlag):
    """Flags of the request."""

    WATCH_TREE = 0x0001


class CompletionFilter(IntFlag):
    """CompletionFilter."""

    FILE_NAME = 0x00000001
    DIR_NAME = 0x00000002
    ATTRIBUTES = 0x00000004
    SIZE = 0x00000008
    LAST_WRITE = 0x00000010
    LAST_ACCESS = 0x00000020
    CREATION = 0x00000040
    EA = 0x00000080
    SECURITY = 0x00000100
    STREAM_NAME = 0x00000200
    STREAM_SIZE = 0x00000400
    STREAM_WRITE = 0x00000800


class FileAction(IntEnum):
    """Action of a FILE_NOTIFY_INFORMATION."""

    ADDED = 1
    REMOVED = 2
    MODIFIED = 3
    RENAMED_OLD_NAME = 4
    RENAMED_NEW_NAME = 5
    ADDED_STREAM = 6
    REMOVED_STREAM = 7
    MODIFIED_STREAM = 8


@dataclass(frozen=True, slots=True)
class ChangeNotifyRequest:
    """SMB2 CHANGE_NOTIFY Request ([MS-SMB2] 2.2.35)."""

    file_id: FileId
    completion_filter: int
    output_buffer_length: int = 65536
    flags: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> ChangeNotifyRequest:
        flags, length, persistent, volatile, completion_filter, _ = unpack_body(
            _REQUEST, message, 32, "CHANGE_NOTIFY request"
        )
        return cls(FileId(persistent, volatile), completion_filter, length, flags)

    def pack(self) -> bytes:
        return _REQUEST.pack(
            32,
            self.flags,
            self.output_buffer_length,
            *self.file_id,
            self.completion_filter,
            0,
        )


class ChangeNotifyResponse(OutputBufferResponse):
    """SMB2 CHANGE_NOTIFY Response ([MS-SMB2] 2.2.36): FILE_NOTIFY_INFORMATION entries."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class FileNotifyInformation:
    """FILE_NOTIFY_INFORMATION ([MS-FSCC] 2.7.1)."""

    action: int
    file_name: str

    @classmethod
    def parse_all(cls, buffer: Buffer) -> list[FileNotifyInformation]:
        entries = []
        rest = memoryview(buffer)
        while rest:
            step, action, length = unpack_from(_ENTRY, rest, 0, "FILE_NOTIFY_INFORMATION")
            if step and (step < _ENTRY.size or step >= len(rest)):
                raise Malformed(f"NextEntryOffset {step} with {len(rest)} bytes left")
            name = slice_at(rest, _ENTRY.size, length, _ENTRY.size, "FileName")
            entries.append(cls(action, utf16_decode(name, "FileName")))
            rest = rest[step:] if step else rest[:0]
        return entries

    @classmethod
    def pack_all(cls, entries: Iterable[FileNotifyInformation]) -> bytes:
        packed = b""
        waiting = b""
        for entry in entries:
            if waiting:
                waiting += padding(len(waiting), 4)
                packed += len(waiting).to_bytes(4, "little") + waiting[4:]
            name = utf16_encode(entry.file_name)
            waiting = _ENTRY.pack(0, entry.action, len(name)) + name
        return packed + waiting
