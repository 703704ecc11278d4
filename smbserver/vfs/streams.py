"""Alternate data streams, kept whole in extended attributes as Samba's streams_xattr does.

The attribute `user.DosStream.NAME:$DATA` holds the stream's bytes and one zero byte. What fits into an extended
attribute is small (about 4 KiB on ext4, 64 KiB elsewhere): enough for zone marks and Finder information.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from smbserver.vfs.handle import Handle
from smbserver.vfs.metadata import Metadata
from smbserver.vfs.names import fold

_PREFIX = "user.DosStream."
_SUFFIX = ":$DATA"
_TERMINATOR = b"\0"

MAX_STREAM_SIZE = 65536 - 1
"""Bytes: XATTR_SIZE_MAX of Linux less the terminator."""

_NO_ROOM = (errno.E2BIG, errno.ERANGE, errno.ENOSPC)


def attribute_of(stream: str) -> str:
    """The extended attribute that holds a stream."""
    return f"{_PREFIX}{stream}{_SUFFIX}"


def stream_names(target: int | str) -> Iterator[str]:
    """The names of a file's alternate data streams, without type."""
    try:
        attributes = os.listxattr(target)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return
    for attribute in attributes:
        if attribute.startswith(_PREFIX) and attribute.endswith(_SUFFIX):
            yield attribute[len(_PREFIX) : -len(_SUFFIX)]


def find_stream(target: int | str, wanted: str) -> str | None:
    """The stored spelling of a stream's name."""
    folded = fold(wanted)
    return next((name for name in stream_names(target) if fold(name) == folded), None)


def stream_size(target: int | str, stream: str) -> int:
    """Bytes in a stream."""
    return max(len(os.getxattr(target, attribute_of(stream))) - len(_TERMINATOR), 0)


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

    def metadata(self, name: str = "") -> Metadata:
        """The file's, with the stream's size."""
        facts = super().metadata(name)
        facts.size = facts.allocation = self.size
        facts.is_directory = False
        return facts

    @property
    def size(self) -> int:
        """Bytes up to the end of the stream."""
        return len(self._load())

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
        return os.getxattr(self._target, self._attribute)[: -len(_TERMINATOR)]

    def _store(self, data: bytes) -> None:
        try:
            os.setxattr(self._target, self._attribute, data + _TERMINATOR)
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
