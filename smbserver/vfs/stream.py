"""An open alternate data stream, read and written whole.

What fits into an extended attribute is small (about 4 KiB on ext4, 64 KiB elsewhere): enough for zone marks and
Finder information.
"""

from __future__ import annotations

import errno
import os

from smbserver.vfs.handle import Handle
from smbserver.vfs.metadata import Metadata
from smbserver.vfs.stream_attributes import TERMINATOR, attribute_of

MAX_STREAM_SIZE = 65536 - 1
"""Bytes: XATTR_SIZE_MAX of Linux less the terminator."""

_NO_ROOM = (errno.E2BIG, errno.ERANGE, errno.ENOSPC)


class Stream(Handle):
    """An open stream; the descriptor is its file's. The same calls as `File` for data."""

    __slots__ = ("_attribute", "name")

    def __init__(self, fd: int, name: str, *, is_directory: bool) -> None:
        super().__init__(fd, is_directory=is_directory, metadata_only=True)
        self.name = name
        self._attribute = attribute_of(name)

    def create(self) -> None:
        """Makes the stream exist, empty."""
        self._store(b"")

    def remove(self) -> None:
        """Deletes the stream; the file stays."""
        os.removexattr(self._target, self._attribute)

    def metadata(self, hidden: bool = False) -> Metadata:
        """The file's, with the stream's size."""
        facts = super().metadata(hidden)
        facts.size = facts.allocation = self.size
        facts.is_directory = False
        return facts

    @property
    def size(self) -> int:
        """Bytes up to the end of the stream."""
        return len(self._load())

    def mapped(self, offset: int, length: int) -> memoryview | None:
        """Extended attributes are not in the page cache."""
        return None

    def read_now(self, buffer: memoryview, offset: int) -> int:
        """Extended attributes are read at once."""
        return self.read(buffer, offset)

    def read(self, buffer: memoryview, offset: int) -> int:
        """Bytes read; fewer than the buffer holds only at the end of the stream."""
        piece = self._load()[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def write(self, buffer: memoryview, offset: int) -> int:
        """Writes all of the buffer or fails with ENOSPC."""
        self._check(offset + len(buffer))
        data = bytearray(self._load())
        if len(data) < offset:
            data.extend(bytes(offset - len(data)))
        data[offset : offset + len(buffer)] = buffer
        self._store(bytes(data))
        return len(buffer)

    def truncate(self, size: int) -> None:
        """Makes the stream that long; what is added is zeros."""
        self._check(size)
        self._store(self._load()[:size].ljust(size, b"\0"))

    def allocate(self, size: int) -> None:
        """Nothing can be reserved; what cannot fit is refused now."""
        self._check(size)

    def zero(self, offset: int, length: int) -> None:
        """Makes a range zeros without moving the end."""
        data = bytearray(self._load())
        end = min(offset + length, len(data))
        if offset < end:
            data[offset:end] = bytes(end - offset)
            self._store(bytes(data))

    def data_ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """Start and end of what there is within a range: streams have no holes."""
        end = min(end, self.size)
        return [(first, end)] if first < end else []

    def sync(self) -> None:
        """Extended attributes are metadata of the file: the file is synced."""
        fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_data(self) -> None:
        """The same as `sync`."""
        self.sync()

    def _load(self) -> bytes:
        return os.getxattr(self._target, self._attribute)[: -len(TERMINATOR)]

    def _store(self, data: bytes) -> None:
        try:
            os.setxattr(self._target, self._attribute, data + TERMINATOR)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise

    @staticmethod
    def _check(size: int) -> None:
        if size > MAX_STREAM_SIZE:
            raise OSError(
                errno.ENOSPC,
                f"a stream of {size} bytes: at most {MAX_STREAM_SIZE} fit into an attribute",
            )
