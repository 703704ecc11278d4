"""Which of a file's extended attributes are the client's own ([MS-FSCC] 2.4.16)."""

from __future__ import annotations

from smbserver.vfs.handle import Handle
from smbserver.wire.bounds import Buffer
from smbserver.wire.file_information import FileFullEaInformation
from smbserver.wire.status import NtStatus, StatusError

PRIVATE_PREFIXES = ("DOSATTRIB", "DosStream.", "SAMBA_")
"""Attributes in which this server or Samba keeps something else."""


def read_extended_attributes(handle: Handle) -> list[FileFullEaInformation]:
    """Those of the `user.` name space whose names a client could have given."""
    return [
        FileFullEaInformation(name.encode(), value)
        for name, value in handle.extended_attributes().items()
        if name.isascii() and not name.startswith(PRIVATE_PREFIXES)
    ]


def write_extended_attributes(handle: Handle, buffer: Buffer) -> None:
    """Sets, or removes by an empty value, what a client gave as FILE_FULL_EA_INFORMATION."""
    for attribute in FileFullEaInformation.parse_all(buffer):
        try:
            name = attribute.ea_name.decode("ascii")
        except UnicodeDecodeError:
            raise StatusError(NtStatus.INVALID_EA_NAME) from None
        if not name or name.startswith(PRIVATE_PREFIXES):
            raise StatusError(NtStatus.ACCESS_DENIED)
        handle.set_extended_attribute(name, attribute.ea_value)
