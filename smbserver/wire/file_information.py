"""File information classes ([MS-FSCC] 2.4): what QUERY_INFO gives and SET_INFO takes.

Times are FILETIME numbers, signed: in SET_INFO 0 leaves a time alone, -1 stops and -2 resumes its
updates on this handle. `parse` and `pack` work on the information buffer, not on the message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import ClassVar, Self

from smbserver.wire.bounds import Buffer, Malformed, slice_at, unpack_from, utf16_encode
from smbserver.wire.information import FixedInformation, counted_name, join_entries, split_entries

_NAME = Struct("<I")
_RENAME = Struct("<B7xQI")
_STREAM = Struct("<IIqq")
_FULL_EA = Struct("<IBBH")


class FileInformationClass(IntEnum):
    """FileInfoClass if InfoType is FILE, and FileInformationClass of QUERY_DIRECTORY."""

    FILE_DIRECTORY = 1
    FILE_FULL_DIRECTORY = 2
    FILE_BOTH_DIRECTORY = 3
    FILE_BASIC = 4
    FILE_STANDARD = 5
    FILE_INTERNAL = 6
    FILE_EA = 7
    FILE_ACCESS = 8
    FILE_NAME = 9
    FILE_RENAME = 10
    FILE_LINK = 11
    FILE_NAMES = 12
    FILE_DISPOSITION = 13
    FILE_POSITION = 14
    FILE_FULL_EA = 15
    FILE_MODE = 16
    FILE_ALIGNMENT = 17
    FILE_ALL = 18
    FILE_ALLOCATION = 19
    FILE_END_OF_FILE = 20
    FILE_ALTERNATE_NAME = 21
    FILE_STREAM = 22
    FILE_PIPE = 23
    FILE_COMPRESSION = 28
    FILE_NETWORK_OPEN = 34
    FILE_ATTRIBUTE_TAG = 35
    FILE_ID_BOTH_DIRECTORY = 37
    FILE_ID_FULL_DIRECTORY = 38
    FILE_VALID_DATA_LENGTH = 39
    FILE_SHORT_NAME = 40
    FILE_NORMALIZED_NAME = 48
    FILE_STANDARD_LINK = 54
    FILE_ID = 59
    FILE_ID_EXTD_DIRECTORY = 60
    FILE_DISPOSITION_EX = 64
    FILE_RENAME_EX = 65


class FileMode(IntFlag):
    """Mode of FILE_MODE_INFORMATION: the create options that live on in the handle."""

    WRITE_THROUGH = 0x00000002
    SEQUENTIAL_ONLY = 0x00000004
    NO_INTERMEDIATE_BUFFERING = 0x00000008
    SYNCHRONOUS_IO_ALERT = 0x00000010
    SYNCHRONOUS_IO_NONALERT = 0x00000020
    DELETE_ON_CLOSE = 0x00001000


class DispositionFlags(IntFlag):
    """Flags of FILE_DISPOSITION_INFORMATION_EX."""

    DELETE = 0x00000001
    POSIX_SEMANTICS = 0x00000002
    FORCE_IMAGE_SECTION_CHECK = 0x00000004
    ON_CLOSE = 0x00000008
    IGNORE_READONLY_ATTRIBUTE = 0x00000010


@dataclass(frozen=True, slots=True)
class FileBasicInformation(FixedInformation):
    """FILE_BASIC_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<qqqqI4x")
    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int
    file_attributes: int


@dataclass(frozen=True, slots=True)
class FileStandardInformation(FixedInformation):
    """FILE_STANDARD_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<qqI??2x")
    allocation_size: int
    end_of_file: int
    number_of_links: int
    delete_pending: bool
    directory: bool


@dataclass(frozen=True, slots=True)
class FileInternalInformation(FixedInformation):
    """FILE_INTERNAL_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<Q")
    index_number: int


@dataclass(frozen=True, slots=True)
class FileEaInformation(FixedInformation):
    """FILE_EA_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<I")
    ea_size: int


@dataclass(frozen=True, slots=True)
class FileAccessInformation(FixedInformation):
    """FILE_ACCESS_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<I")
    access_flags: int


@dataclass(frozen=True, slots=True)
class FilePositionInformation(FixedInformation):
    """FILE_POSITION_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<q")
    current_byte_offset: int


@dataclass(frozen=True, slots=True)
class FileModeInformation(FixedInformation):
    """FILE_MODE_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<I")
    mode: int


@dataclass(frozen=True, slots=True)
class FileAlignmentInformation(FixedInformation):
    """FILE_ALIGNMENT_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<I")
    alignment_requirement: int = 0


@dataclass(frozen=True, slots=True)
class FileNetworkOpenInformation(FixedInformation):
    """FILE_NETWORK_OPEN_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<qqqqqqI4x")
    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int
    allocation_size: int
    end_of_file: int
    file_attributes: int


@dataclass(frozen=True, slots=True)
class FileAttributeTagInformation(FixedInformation):
    """FILE_ATTRIBUTE_TAG_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<II")
    file_attributes: int
    reparse_tag: int = 0


@dataclass(frozen=True, slots=True)
class FileCompressionInformation(FixedInformation):
    """FILE_COMPRESSION_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<qHBBB3x")
    compressed_file_size: int
    compression_format: int = 0
    compression_unit_shift: int = 0
    chunk_shift: int = 0
    cluster_shift: int = 0


@dataclass(frozen=True, slots=True)
class FileIdInformation(FixedInformation):
    """FILE_ID_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<Q16s")
    volume_serial_number: int
    file_id: bytes


@dataclass(frozen=True, slots=True)
class FileDispositionInformation(FixedInformation):
    """FILE_DISPOSITION_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<?")
    delete_pending: bool


@dataclass(frozen=True, slots=True)
class FileDispositionInformationEx(FixedInformation):
    """FILE_DISPOSITION_INFORMATION_EX: `DispositionFlags`."""

    LAYOUT: ClassVar[Struct] = Struct("<I")
    flags: int


@dataclass(frozen=True, slots=True)
class FileEndOfFileInformation(FixedInformation):
    """FILE_END_OF_FILE_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<q")
    end_of_file: int


@dataclass(frozen=True, slots=True)
class FileAllocationInformation(FixedInformation):
    """FILE_ALLOCATION_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<q")
    allocation_size: int


@dataclass(frozen=True, slots=True)
class FileValidDataLengthInformation(FixedInformation):
    """FILE_VALID_DATA_LENGTH_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<q")
    valid_data_length: int


@dataclass(frozen=True, slots=True)
class FileNameInformation:
    """FILE_NAME_INFORMATION, also for the alternate and the normalized name."""

    file_name: str

    @classmethod
    def parse(cls, buffer: Buffer) -> FileNameInformation:
        (length,) = unpack_from(_NAME, buffer, 0, "FILE_NAME_INFORMATION")
        return cls(counted_name(buffer, _NAME.size, length, "FileName"))

    def pack(self) -> bytes:
        name = utf16_encode(self.file_name)
        return _NAME.pack(len(name)) + name


@dataclass(frozen=True, slots=True)
class FileAllInformation:
    """FILE_ALL_INFORMATION. Linux refuses one of less than 101 bytes: name roots."""

    basic: FileBasicInformation
    standard: FileStandardInformation
    internal: FileInternalInformation
    ea: FileEaInformation
    access: FileAccessInformation
    position: FilePositionInformation
    mode: FileModeInformation
    alignment: FileAlignmentInformation
    name: FileNameInformation

    @classmethod
    def parse(cls, buffer: Buffer) -> FileAllInformation:
        view = memoryview(buffer)
        return cls(
            FileBasicInformation.parse(view),
            FileStandardInformation.parse(view[40:]),
            FileInternalInformation.parse(view[64:]),
            FileEaInformation.parse(view[72:]),
            FileAccessInformation.parse(view[76:]),
            FilePositionInformation.parse(view[80:]),
            FileModeInformation.parse(view[88:]),
            FileAlignmentInformation.parse(view[92:]),
            FileNameInformation.parse(view[96:]),
        )

    def pack(self) -> bytes:
        fixed = (self.basic, self.standard, self.internal, self.ea, self.access, self.position)
        parts = (*fixed, self.mode, self.alignment, self.name)
        return b"".join(part.pack() for part in parts)


@dataclass(frozen=True, slots=True)
class FileRenameInformation:
    """FILE_RENAME_INFORMATION, type 2, the one of SMB2."""

    file_name: str
    replace_if_exists: bool = False
    root_directory: int = 0

    @classmethod
    def parse(cls, buffer: Buffer) -> Self:
        replace, root, length = unpack_from(_RENAME, buffer, 0, cls.__name__)
        return cls(counted_name(buffer, _RENAME.size, length, "FileName"), bool(replace), root)

    def pack(self) -> bytes:
        name = utf16_encode(self.file_name)
        fixed = _RENAME.pack(self.replace_if_exists, self.root_directory, len(name)) + name
        # 24 bytes at least: the C structure ends in an array and is padded ([MS-SMB2] 2.2.39).
        return fixed.ljust(24, b"\0")


class FileLinkInformation(FileRenameInformation):
    """FILE_LINK_INFORMATION, type 2."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class FileStreamInformation:
    """FILE_STREAM_INFORMATION: `::$DATA` and the named streams."""

    stream_name: str
    stream_size: int
    stream_allocation_size: int

    @classmethod
    def parse_all(cls, buffer: Buffer) -> list[FileStreamInformation]:
        streams = []
        for entry in split_entries(buffer, _STREAM.size, "FILE_STREAM_INFORMATION"):
            _, length, size, allocation = _STREAM.unpack_from(entry)
            name = counted_name(entry, _STREAM.size, length, "StreamName")
            streams.append(cls(name, size, allocation))
        return streams

    @classmethod
    def pack_all(cls, streams: Iterable[FileStreamInformation]) -> bytes:
        return join_entries(stream.pack() for stream in streams)

    def pack(self) -> bytes:
        name = utf16_encode(self.stream_name)
        return _STREAM.pack(0, len(name), self.stream_size, self.stream_allocation_size) + name


@dataclass(frozen=True, slots=True)
class FileFullEaInformation:
    """FILE_FULL_EA_INFORMATION."""

    ea_name: bytes
    ea_value: bytes
    flags: int = 0

    @classmethod
    def parse_all(cls, buffer: Buffer) -> list[FileFullEaInformation]:
        attributes = []
        for entry in split_entries(buffer, _FULL_EA.size, "FILE_FULL_EA_INFORMATION"):
            _, flags, name_length, value_length = _FULL_EA.unpack_from(entry)
            name = slice_at(entry, _FULL_EA.size, name_length + 1, 0, "EaName")
            at = _FULL_EA.size + name_length + 1
            value = slice_at(entry, at, value_length, 0, "EaValue")
            if name[-1] != 0:
                raise Malformed("EaName does not end in a zero byte")
            attributes.append(cls(bytes(name[:-1]), bytes(value), flags))
        return attributes

    @classmethod
    def pack_all(cls, attributes: Iterable[FileFullEaInformation]) -> bytes:
        return join_entries((attribute.pack() for attribute in attributes), alignment=4)

    def pack(self) -> bytes:
        fixed = _FULL_EA.pack(0, self.flags, len(self.ea_name), len(self.ea_value))
        return fixed + self.ea_name + b"\0" + self.ea_value
