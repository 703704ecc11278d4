"""File system information classes ([MS-FSCC] 2.5): what QUERY_INFO tells of a volume."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import ClassVar

from smbserver.wire.bounds import Buffer, unpack_from, utf16_encode
from smbserver.wire.information import FixedInformation, counted_name

_VOLUME = Struct("<qII?x")
_ATTRIBUTE = Struct("<IiI")


class FsInformationClass(IntEnum):
    """FileInfoClass if InfoType is FILESYSTEM."""

    FILE_FS_VOLUME = 1
    FILE_FS_LABEL = 2
    FILE_FS_SIZE = 3
    FILE_FS_DEVICE = 4
    FILE_FS_ATTRIBUTE = 5
    FILE_FS_CONTROL = 6
    FILE_FS_FULL_SIZE = 7
    FILE_FS_OBJECT_ID = 8
    FILE_FS_SECTOR_SIZE = 11


class FileSystemAttributes(IntFlag):
    """FileSystemAttributes of FILE_FS_ATTRIBUTE_INFORMATION ([MS-FSCC] 2.5.1)."""

    CASE_SENSITIVE_SEARCH = 0x00000001
    CASE_PRESERVED_NAMES = 0x00000002
    UNICODE_ON_DISK = 0x00000004
    PERSISTENT_ACLS = 0x00000008
    FILE_COMPRESSION = 0x00000010
    VOLUME_QUOTAS = 0x00000020
    SUPPORTS_SPARSE_FILES = 0x00000040
    SUPPORTS_REPARSE_POINTS = 0x00000080
    VOLUME_IS_COMPRESSED = 0x00008000
    SUPPORTS_OBJECT_IDS = 0x00010000
    SUPPORTS_ENCRYPTION = 0x00020000
    NAMED_STREAMS = 0x00040000
    READ_ONLY_VOLUME = 0x00080000
    SUPPORTS_HARD_LINKS = 0x00400000
    SUPPORTS_EXTENDED_ATTRIBUTES = 0x00800000
    SUPPORTS_OPEN_BY_FILE_ID = 0x01000000
    SUPPORTS_BLOCK_REFCOUNTING = 0x08000000


class DeviceType(IntEnum):
    """DeviceType of FILE_FS_DEVICE_INFORMATION."""

    CD_ROM = 0x02
    DISK = 0x07


class DeviceCharacteristics(IntFlag):
    """Characteristics of FILE_FS_DEVICE_INFORMATION."""

    REMOVABLE_MEDIA = 0x00000001
    READ_ONLY_DEVICE = 0x00000002
    REMOTE_DEVICE = 0x00000010
    DEVICE_IS_MOUNTED = 0x00000020


class SectorSizeFlags(IntFlag):
    """Flags of FILE_FS_SECTOR_SIZE_INFORMATION."""

    ALIGNED_DEVICE = 0x00000001
    PARTITION_ALIGNED_ON_DEVICE = 0x00000002
    NO_SEEK_PENALTY = 0x00000004
    TRIM_ENABLED = 0x00000008


@dataclass(frozen=True, slots=True)
class FileFsVolumeInformation:
    """FILE_FS_VOLUME_INFORMATION."""

    volume_creation_time: int
    volume_serial_number: int
    volume_label: str
    supports_objects: bool = False

    @classmethod
    def parse(cls, buffer: Buffer) -> FileFsVolumeInformation:
        time, serial, length, objects = unpack_from(_VOLUME, buffer, 0, "FileFsVolumeInformation")
        label = counted_name(buffer, _VOLUME.size, length, "VolumeLabel")
        return cls(time, serial, label, objects)

    def pack(self) -> bytes:
        label = utf16_encode(self.volume_label)
        time, serial = self.volume_creation_time, self.volume_serial_number
        return _VOLUME.pack(time, serial, len(label), self.supports_objects) + label


@dataclass(frozen=True, slots=True)
class FileFsSizeInformation(FixedInformation):
    """FILE_FS_SIZE_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<qqII")
    total_allocation_units: int
    available_allocation_units: int
    sectors_per_allocation_unit: int
    bytes_per_sector: int


@dataclass(frozen=True, slots=True)
class FileFsDeviceInformation(FixedInformation):
    """FILE_FS_DEVICE_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<II")
    device_type: int = DeviceType.DISK
    characteristics: int = DeviceCharacteristics.DEVICE_IS_MOUNTED


@dataclass(frozen=True, slots=True)
class FileFsAttributeInformation:
    """FILE_FS_ATTRIBUTE_INFORMATION."""

    file_system_attributes: int
    file_system_name: str
    maximum_component_name_length: int = 255

    @classmethod
    def parse(cls, buffer: Buffer) -> FileFsAttributeInformation:
        attributes, longest, length = unpack_from(
            _ATTRIBUTE, buffer, 0, "FileFsAttributeInformation"
        )
        name = counted_name(buffer, _ATTRIBUTE.size, length, "FileSystemName")
        return cls(attributes, name, longest)

    def pack(self) -> bytes:
        name = utf16_encode(self.file_system_name)
        longest = self.maximum_component_name_length
        return _ATTRIBUTE.pack(self.file_system_attributes, longest, len(name)) + name


@dataclass(frozen=True, slots=True)
class FileFsControlInformation(FixedInformation):
    """FILE_FS_CONTROL_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<qqqQQI4x")
    free_space_start_filtering: int = 0
    free_space_threshold: int = 0
    free_space_stop_filtering: int = 0
    default_quota_threshold: int = 0xFFFFFFFFFFFFFFFF
    default_quota_limit: int = 0xFFFFFFFFFFFFFFFF
    file_system_control_flags: int = 0


@dataclass(frozen=True, slots=True)
class FileFsFullSizeInformation(FixedInformation):
    """FILE_FS_FULL_SIZE_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<qqqII")
    total_allocation_units: int
    caller_available_allocation_units: int
    actual_available_allocation_units: int
    sectors_per_allocation_unit: int
    bytes_per_sector: int


@dataclass(frozen=True, slots=True)
class FileFsObjectIdInformation(FixedInformation):
    """FILE_FS_OBJECTID_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<16s48s")
    object_id: bytes
    extended_info: bytes = bytes(48)


@dataclass(frozen=True, slots=True)
class FileFsSectorSizeInformation(FixedInformation):
    """FILE_FS_SECTOR_SIZE_INFORMATION."""

    LAYOUT: ClassVar[Struct] = Struct("<IIIIIII")
    logical_bytes_per_sector: int = 512
    physical_bytes_per_sector_for_atomicity: int = 4096
    physical_bytes_per_sector_for_performance: int = 4096
    effective_physical_bytes_per_sector_for_atomicity: int = 4096
    flags: int = SectorSizeFlags.ALIGNED_DEVICE | SectorSizeFlags.PARTITION_ALIGNED_ON_DEVICE
    byte_offset_for_sector_alignment: int = 0
    byte_offset_for_partition_alignment: int = 0
