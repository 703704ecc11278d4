"""An open file system object: a descriptor, and what can be asked and set without touching data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from smbserver.vfs.dos_attributes import (
    SPARSE,
    STORED,
    DosAttributes,
    read_dos_attributes,
    write_dos_attributes,
)
from smbserver.vfs.metadata import Metadata, metadata_of
from smbserver.vfs.stream_attributes import stream_names, stream_size
from smbserver.wire.status import NtStatus, StatusError

_CLOCK_REALTIME_COARSE = 5
"""Of linux/time.h: the clock of file systems."""

_SETTINGS = 3
"""How often a ChangeTime is stored again because the thread was held up in between."""


class Handle:
    """A file, directory or stream. Opened for its metadata only, the descriptor is an O_PATH one.

    Whoever uses it in a thread does so inside `with handle:`. Until all have left, a closed handle keeps its
    descriptor: the number would soon mean another file.
    """

    __slots__ = ("_closed", "_target", "_users", "fd", "is_directory", "on_unused")

    def __init__(self, fd: int, *, is_directory: bool, metadata_only: bool) -> None:
        self.fd = fd
        self.is_directory = is_directory
        self._closed = False
        self._users = 0
        self.on_unused: Callable[[], None] | None = None
        """Called when the last user leaves a closed handle: nothing more is written through it."""
        # The f... calls refuse O_PATH descriptors; through /proc the same object is reached.
        self._target: int | str = f"/proc/self/fd/{fd}" if metadata_only else fd

    @property
    def target(self) -> int | str:
        """What calls on extended attributes take."""
        return self._target

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: what opens of the same object have in common."""
        facts = os.fstat(self.fd)
        return facts.st_dev, facts.st_ino

    def metadata(self, hidden: bool = False) -> Metadata:
        """Size, times, attributes as of now; `hidden`: the name alone hides it."""
        return metadata_of(os.fstat(self.fd), read_dos_attributes(self._target), hidden)

    def file_metadata(self) -> Metadata:
        """Of the file itself, also where the handle is one of its streams."""
        return metadata_of(os.fstat(self.fd), None)

    def streams(self) -> list[tuple[str, int]]:
        """Name and size of each alternate data stream."""
        return [(name, stream_size(self._target, name)) for name in stream_names(self._target)]

    def mode_and_owner(self) -> tuple[int, int, int]:
        """Mode bits, user id and group id."""
        facts = os.fstat(self.fd)
        return facts.st_mode, facts.st_uid, facts.st_gid

    def set_attributes(
        self, attributes: int | None, creation_time: int | None = None, hidden: bool = False
    ) -> None:
        """Stores DOS attributes and creation time; None keeps what is there. Sparse stays what it is."""
        now = self.metadata(hidden)
        if attributes is None:
            attributes = now.attributes
        write_dos_attributes(
            self._target,
            DosAttributes(
                (attributes & ~SPARSE | now.attributes & SPARSE) & STORED,
                now.creation_time if creation_time is None else creation_time,
            ),
        )

    def set_change_time(self, change_time: int, hidden: bool = False) -> None:
        """Stores a ChangeTime, which counts until the next change; to be set after all else."""
        now = self.metadata(hidden)
        for _ in range(_SETTINGS):
            moment = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
            stored = DosAttributes(now.attributes & STORED, now.creation_time, change_time, moment)
            write_dos_attributes(self._target, stored)
            if self.metadata().change_time == change_time:
                return

    @property
    def is_sparse(self) -> bool:
        """Whether a client said that the file may have holes."""
        stored = read_dos_attributes(self._target)
        return stored is not None and bool(stored.attributes & SPARSE)

    def set_sparse(self, sparse: bool) -> None:
        """Stores whether the file may have holes."""
        now = self.metadata()
        attributes = now.attributes & STORED & ~SPARSE | (SPARSE if sparse else 0)
        write_dos_attributes(self._target, DosAttributes(attributes, now.creation_time))

    def set_times(self, access_ns: int | None, write_ns: int | None) -> None:
        """Sets the times of last access and last write; None keeps what is there."""
        facts = os.fstat(self.fd)
        os.utime(
            self._target,
            ns=(
                facts.st_atime_ns if access_ns is None else access_ns,
                facts.st_mtime_ns if write_ns is None else write_ns,
            ),
        )

    def extended_attributes(self) -> dict[str, bytes]:
        """All of the `user.` name space: name without prefix to value."""
        prefix = "user."
        names = os.listxattr(self._target)
        return {
            name[len(prefix) :]: os.getxattr(self._target, name)
            for name in names
            if name.startswith(prefix)
        }

    def set_extended_attribute(self, name: str, value: bytes) -> None:
        """Sets one of the `user.` name space; an empty value removes it."""
        if value:
            os.setxattr(self._target, f"user.{name}", value)
            return
        if f"user.{name}" in os.listxattr(self._target):
            os.removexattr(self._target, f"user.{name}")

    def can(self, mode: int) -> bool:
        """Whether the operating system lets this process do os.R_OK, W_OK, X_OK here."""
        return os.access(f"/proc/self/fd/{self.fd}", mode, effective_ids=True)

    def sync(self) -> None:
        """Returns when what was written is on disk."""
        os.fsync(self.fd)

    def __enter__(self) -> None:
        self.begin_use()

    def __exit__(self, *raised: object) -> None:
        self.end_use()

    def begin_use(self) -> None:
        """What `with` does, for those who come back by a callback."""
        if self._closed and not self._users:
            raise StatusError(NtStatus.FILE_CLOSED)
        self._users += 1

    def end_use(self) -> None:
        """The last one closes a descriptor that was to be closed meanwhile."""
        self._users -= 1
        if self._closed and not self._users:
            os.close(self.fd)
            if self.on_unused is not None:
                self.on_unused()

    @property
    def in_use(self) -> bool:
        """Whether a thread works with it."""
        return self._users > 0

    def close(self) -> None:
        """Closes the descriptor, now or when the last user leaves; further calls do nothing."""
        if self._closed:
            return
        self._closed = True
        if not self._users:
            os.close(self.fd)
