"""renameat2(2) with RENAME_NOREPLACE, which Python does not offer: a rename that never overwrites."""

from __future__ import annotations

import ctypes
import errno
import os

_RENAME_NOREPLACE = 1

_renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


def rename(old_folder: int, old: str, new_folder: int, new: str, *, replace: bool) -> None:
    """Renames an entry of one open folder to an entry of another; refuses EEXIST unless told to replace."""
    if replace:
        os.rename(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)
        return
    names = os.fsencode(old), os.fsencode(new)
    if _renameat2(old_folder, names[0], new_folder, names[1], _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code != errno.EINVAL:
        raise OSError(code, os.strerror(code), new)
    # The file system has no such flag (or a folder would move below itself, and fails again).
    if _exists(new_folder, new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
    os.rename(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
