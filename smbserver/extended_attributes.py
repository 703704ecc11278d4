"""Which of a file's extended attributes are the client's own ([MS-FSCC] 2.4.16)."""

from __future__ import annotations

from smbserver.vfs.handle import Handle
from smbserver.wire.file_information import FileFullEaInformation

PRIVATE_PREFIXES = ("DOSATTRIB", "DosStream.", "SAMBA_")
"""Attributes in which this server or Samba keeps something else."""


def read_extended_attributes(handle: Handle) -> list[FileFullEaInformation]:
    """Those of the `user.` name space whose names a client could have given."""
    return [
        FileFullEaInformation(name.encode(), value)
        for name, value in handle.extended_attributes().items()
        if name.isascii() and not name.startswith(PRIVATE_PREFIXES)
    ]
