"""A share's folder and what happens to names in it.

The folder is opened once. A name goes two steps:

1. `look_up` turns a client's spelling into a `Location`: the real path below the folder, and, where something is
   there, an O_PATH descriptor of it. What is decided afterwards is decided about that object, not about a name.
2. `open_...`, `create_...`, `remove`, `rename`, `link` act on it.

Every path goes through openat2 with RESOLVE_BENEATH, relative to the folder: symbolic links are followed while they
stay inside, and nothing leads out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from smbserver.parameters import Share as ShareParameters
from smbserver.vfs.directory import Directory, entry_metadata
from smbserver.vfs.dos_attributes import DosAttributes, read_dos_attributes, write_dos_attributes
from smbserver.vfs.file import File
from smbserver.vfs.lookup import FOLDED_NAMES
from smbserver.vfs.metadata import Metadata, metadata_of
from smbserver.vfs.names import ShareName, fold, is_shown
from smbserver.vfs.openat2 import open_beneath, require_openat2
from smbserver.vfs.rename import rename
from smbserver.vfs.short_names import long_name, may_be_made, short_name
from smbserver.vfs.volume import Volume, volume_of
from smbserver.vfs.wildcard import Expression
from smbserver.wire.filetime import now
from smbserver.wire.status import NtStatus, StatusError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_NEW_FILE_MODE = 0o666
_NEW_FOLDER_MODE = 0o777


@dataclass(slots=True)
class Location:
    """Where a name leads."""

    path: str
    """Real path below the share, `/` between components; the last one as asked for if nothing is there."""
    fd: int = -1
    """O_PATH descriptor of what is there; -1 for nothing. Whoever opens it takes it over."""

    @property
    def exists(self) -> bool:
        """Whether something was there at the time of the look-up."""
        return self.fd >= 0

    @property
    def name(self) -> str:
        """The last component; empty for the share's folder itself."""
        return self.path.rpartition("/")[2]

    def facts(self) -> os.stat_result:
        """stat of what is there, never of what has taken its place since."""
        return os.fstat(self.fd)

    def close(self) -> None:
        """Gives the descriptor back, unless it has been taken over."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Share:
    """One shared folder."""

    def __init__(self, parameters: ShareParameters) -> None:
        self.parameters = parameters
        self.root = os.open(parameters.path, _FOLDER | os.O_CLOEXEC)
        # Tree connects and what was opened through them hold the share; it ends with the last of them.
        self._close = weakref.finalize(self, os.close, self.root)
        self._hide = [Expression(pattern) for pattern in parameters.hide_files]
        self._veto = [Expression(pattern) for pattern in parameters.veto_files]

    def close(self) -> None:
        """Closes the folder now; handles opened in it live on."""
        self._close()

    # 1. names

    def look_up(self, name: ShareName) -> Location:
        """Finds what a client means; fails when a folder on the way is missing."""
        if any(not self.is_visible(part) for part in name.components):
            raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)
        path = "/".join(name.components)
        try:
            return Location(path, open_beneath(self.root, path, os.O_PATH))
        except NotADirectoryError:
            raise StatusError(NtStatus.OBJECT_PATH_NOT_FOUND) from None
        except FileNotFoundError:
            return self._look_up_folded(name.components)

    def _look_up_folded(self, components: tuple[str, ...]) -> Location:
        """Component by component; from the last folder on if its name is exact, as it mostly is."""
        path, rest = "/".join(components[:-1]), components[-1:]
        if not self._is_folder(path):
            path, rest = "", components
        for depth, component in enumerate(rest):
            real = self._spelling(path, component)
            if real is None:
                if depth + 1 < len(rest):
                    raise StatusError(NtStatus.OBJECT_PATH_NOT_FOUND)
                wanted = long_name(component) or component
                return Location(f"{path}/{wanted}" if path else wanted)
            path = f"{path}/{real}" if path else real
        try:
            return Location(path, open_beneath(self.root, path, os.O_PATH))
        except FileNotFoundError:  # removed meanwhile, or a link that leads nowhere
            return Location(path)

    def _is_folder(self, path: str) -> bool:
        try:
            os.close(open_beneath(self.root, path, os.O_PATH | os.O_DIRECTORY))
        except OSError:
            return False
        return True

    def _spelling(self, folder: str, component: str) -> str | None:
        try:
            fd = open_beneath(self.root, folder, _FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            raise StatusError(NtStatus.OBJECT_PATH_NOT_FOUND) from None
        try:
            return _find_spelling(fd, component)
        finally:
            os.close(fd)

    def spelling(self, directory: Directory, name: str) -> str | None:
        """How an entry of an open directory is really called, the exact name first."""
        if name in (".", ".."):
            return name
        if not is_shown(name) or not self.is_visible(name):
            return None
        try:
            os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return _find_spelling(directory.fd, name)
        return name

    def hides(self, name: str) -> bool:
        """Whether a name is hidden for what it is: dot files, unless configured otherwise, and `hide files`."""
        if self.parameters.hide_dot_files and name.startswith(".") and name not in (".", ".."):
            return True
        return any(expression.matches(name) for expression in self._hide)

    def is_visible(self, name: str) -> bool:
        """False for names that `veto files` hides."""
        return not any(expression.matches(name) for expression in self._veto)

    # 2. opening and creating

    def open_file(self, location: Location, flags: int | None) -> File:
        """Opens what the location found with O_RDONLY, O_WRONLY or O_RDWR; None: for its metadata only."""
        if flags is None:
            return File(self._take(location), metadata_only=True)
        if not stat.S_ISREG(location.facts().st_mode):  # opening a FIFO or a device can hang or act
            raise StatusError(NtStatus.ACCESS_DENIED)
        fd = os.open(f"/proc/self/fd/{location.fd}", flags | os.O_CLOEXEC)
        location.close()
        return File(fd, metadata_only=False)

    def open_directory(self, location: Location, *, to_list: bool) -> Directory:
        """Opens the directory that the location found."""
        if not to_list:
            return Directory(self._take(location), metadata_only=True)
        fd = os.open(f"/proc/self/fd/{location.fd}", _FOLDER | os.O_CLOEXEC)
        location.close()
        return Directory(fd, metadata_only=False)

    def create_file(self, location: Location, attributes: int) -> File:
        """Makes a new, empty file; FileExistsError if somebody else was faster."""
        mode = _NEW_FILE_MODE & self.parameters.create_mask
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        made = File(open_beneath(self.root, location.path, flags, mode), metadata_only=False)
        _store_attributes(made, attributes)
        return made

    def create_directory(self, location: Location, attributes: int) -> Directory:
        """Makes a new directory; FileExistsError if somebody else was faster."""
        with self._folder_of(location.path) as (folder, name):
            os.mkdir(name, _NEW_FOLDER_MODE & self.parameters.directory_mask, dir_fd=folder)
        fd = open_beneath(self.root, location.path, _FOLDER | os.O_NOFOLLOW)
        made = Directory(fd, metadata_only=False)
        _store_attributes(made, attributes)
        return made

    @staticmethod
    def _take(location: Location) -> int:
        fd, location.fd = location.fd, -1
        return fd

    # 3. changing names

    def remove(self, path: str, identity: tuple[int, int], *, is_directory: bool) -> None:
        """Removes the entry if it still leads to that object; a link is removed, not what it leads to."""
        fd = open_beneath(self.root, path, os.O_PATH)
        facts = os.fstat(fd)
        os.close(fd)
        if (facts.st_dev, facts.st_ino) != identity:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        with self._folder_of(path) as (folder, name):
            entry = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if is_directory and not stat.S_ISLNK(entry.st_mode):
                os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)

    def rename(self, old: str, new: str, *, replace: bool) -> None:
        """Moves an entry, also from one folder to another."""
        with self._folder_of(old) as (old_folder, old_name), self._folder_of(new) as (folder, name):
            rename(old_folder, old_name, folder, name, replace=replace)

    def link(self, fd: int, new: str, *, replace: bool) -> None:
        """Gives an open file one more name."""
        with self._folder_of(new) as (folder, name):
            if replace:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder, follow_symlinks=True)

    def folder_identity(self, path: str) -> tuple[int, int]:
        """Device and inode of the directory that holds the entry at `path`."""
        with self._folder_of(path) as (folder, _):
            facts = os.fstat(folder)
            return facts.st_dev, facts.st_ino

    @contextlib.contextmanager
    def _folder_of(self, path: str) -> Iterator[tuple[int, str]]:
        folder, _, name = path.rpartition("/")
        if not folder:
            yield self.root, name
            return
        fd = open_beneath(self.root, folder, os.O_PATH | os.O_DIRECTORY)
        try:
            yield fd, name
        finally:
            os.close(fd)

    # 4. what there is

    def entry(self, directory: Directory, path: str, name: str) -> Metadata | None:
        """Facts of an entry of the directory at `path`; None for what has gone or leads out of the share."""
        hidden = self.hides(name)
        found = entry_metadata(directory, name, hidden)
        if found is not None:
            return found
        try:
            fd = open_beneath(self.root, f"{path}/{name}" if path else name, os.O_PATH)
        except OSError:
            return None
        try:
            stored = read_dos_attributes(f"/proc/self/fd/{fd}")
            return metadata_of(os.fstat(fd), stored, hidden)
        finally:
            os.close(fd)

    def volume(self) -> Volume:
        """Sizes of the file system below."""
        return volume_of(self.root)


def _store_attributes(made: File | Directory, attributes: int) -> None:
    """Of what has just been made; it is closed if there is no room for them."""
    try:
        write_dos_attributes(made.fd, DosAttributes(attributes, now()))
    except BaseException:
        made.close()
        raise


def _find_spelling(directory: int, name: str) -> str | None:
    """Another case of the letters, or the long name that belongs to a short one."""
    found = FOLDED_NAMES.find(directory, name)
    if found is not None or not may_be_made(name):
        return found
    short = fold(name)
    return next((entry for entry in os.listdir(directory) if short_name(entry) == short), None)


def open_share(parameters: ShareParameters) -> Share:
    """Opens a share's folder; fails in words where the kernel cannot keep clients inside it."""
    require_openat2()
    return Share(parameters)
