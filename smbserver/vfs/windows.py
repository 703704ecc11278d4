"""Which stretches of open files are mapped, for READs that are sent straight from the page cache.

One per file: where its READs are now. It stays until the READs move on, the file is closed, or others need its place.
To enter pages into a new one costs less than the copy that it saves, and only the first READ of a page pays for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smbdirect.file_window import FileWindow

if TYPE_CHECKING:
    from smbserver.vfs.file import File

WINDOW = 256 << 20
"""Bytes of the longest stretch. The kernel's tables for it take half a MiB, which no shortage takes back."""

WINDOWS_MAX = 16
"""Stretches that one worker keeps; each costs a descriptor."""

_windows: dict[File, FileWindow] = {}
"""In the order of their last use."""


def view(file: File, size: int, offset: int, length: int) -> memoryview:
    """A range that lies within the file, whose size is given. ValueError or OSError where none can be mapped."""
    window = _windows.pop(file, None)
    if window is None or not window.holds(offset, length):
        # It begins up to half its length before the range: requests overtake each other.
        half = WINDOW // 2
        start = offset // half * half
        window = FileWindow(file.fd, start, min(size - start, max(WINDOW, 2 * length)))
    _windows[file] = window
    if len(_windows) > WINDOWS_MAX:
        del _windows[next(iter(_windows))]
    return window.view(offset, length)


def forget(file: File) -> None:
    """The file is closed. Views that are still to be sent stay what they are."""
    _windows.pop(file, None)
