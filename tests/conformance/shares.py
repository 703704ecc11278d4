"""The shares that the suites need, in the words of smb.conf, and the folder below them.

The files lie in memory where they can: on ext4 a block of extended attributes counts into AllocationSize, which tests
of durable handles and of channels want to be 0 for an empty file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHARES = {
    "data": ("path = {share}",),
    "persistent": ("path = {share}", "continuous availability = yes"),
    "nostreams": ("path = {share}", "vfs objects = acl_xattr"),
    "nonotify": ("path = {share}", "change notify = no"),
    "noncanon": ("path = {share}", "acl flag inherited canonicalization = no"),
    "hideunread": ("path = {share}", "hide unreadable = yes"),
    "noperm": ("path = {noperm}",),
    "dosmode": ("path = {share}", "hide files = /hidefile/", "hide dot files = yes"),
    "acl_xattr_ea": (
        "path = {share}",
        "vfs objects = acl_xattr",
        "acl_xattr:security_acl_name = user.hackme",
    ),
}
SHARE_OPTIONS = ("read only = no", "create mask = 755")
GLOBAL_OPTIONS = (
    "server multi channel support = yes",
    "durable handles = yes",
)

_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Folder:
    """Where one server's configuration and files are."""

    root: Path

    @property
    def share(self) -> Path:
        return self.root / "share"

    @property
    def noperm(self) -> Path:
        """A folder that only root may enter."""
        return self.root / "noperm"

    def sections(self) -> tuple[str, ...]:
        """The shares' lines of smb.conf."""
        lines: list[str] = []
        for name, settings in SHARES.items():
            lines += (f"[{name}]", *settings, *SHARE_OPTIONS)
        return tuple(line.format(share=self.share, noperm=self.noperm) for line in lines)


@contextlib.contextmanager
def folder() -> Iterator[Folder]:
    """A folder of this run's own, removed at the end."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="conformance-", dir=place) as name:
        made = Folder(Path(name))
        made.root.chmod(0o711)
        made.share.mkdir()
        made.share.chmod(0o777)
        zeroed = made.share / "zeroed"  # zero-data-ioctl brings no file of its own
        zeroed.write_bytes(bytes(8192))
        zeroed.chmod(0o666)
        made.noperm.mkdir(mode=0o700)
        yield made
