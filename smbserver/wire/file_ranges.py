"""Ranges of files: what is allocated, what is to become zeros ([MS-FSCC] 2.3.52, 2.3.83), and sparse files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct

from smbserver.wire.bounds import Buffer, Malformed

_RANGE = Struct("<qq")


@dataclass(frozen=True, slots=True)
class FileAllocatedRangeBuffer:
    """FILE_ALLOCATED_RANGE_BUFFER ([MS-FSCC] 2.3.52): what is asked for, and each range of the answer."""

    SIZE = _RANGE.size

    file_offset: int
    length: int

    @classmethod
    def parse(cls, data: Buffer) -> FileAllocatedRangeBuffer:
        if len(data) < _RANGE.size:
            raise Malformed(f"FILE_ALLOCATED_RANGE_BUFFER of {len(data)} bytes")
        return cls(*_RANGE.unpack_from(data))

    def pack(self) -> bytes:
        return _RANGE.pack(self.file_offset, self.length)

    @classmethod
    def pack_all(cls, ranges: Iterable[FileAllocatedRangeBuffer]) -> bytes:
        return b"".join(one.pack() for one in ranges)


@dataclass(frozen=True, slots=True)
class FileZeroDataInformation:
    """FILE_ZERO_DATA_INFORMATION ([MS-FSCC] 2.3.83)."""

    file_offset: int
    beyond_final_zero: int

    @classmethod
    def parse(cls, data: Buffer) -> FileZeroDataInformation:
        if len(data) < _RANGE.size:
            raise Malformed(f"FILE_ZERO_DATA_INFORMATION of {len(data)} bytes")
        return cls(*_RANGE.unpack_from(data))

    def pack(self) -> bytes:
        return _RANGE.pack(self.file_offset, self.beyond_final_zero)


def parse_set_sparse(data: Buffer) -> bool:
    """FILE_SET_SPARSE_BUFFER ([MS-FSCC] 2.3.77); without one the file becomes sparse."""
    return not len(data) or bool(data[0])
