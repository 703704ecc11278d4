"""Which of a file's extended attributes are the client's own ([MS-FSCC] 2.4.16)."""

from __future__ import annotations

from smbserver.vfs.handle import Handle
from smbserver.vfs.share import Share
from smbserver.wire.bounds import Buffer
from smbserver.wire.file_information import FileFullEaInformation
from smbserver.wire.status import NtStatus, StatusError

PRIVATE_PREFIXES = ("DOSATTRIB", "DosStream.", "SAMBA_")
"""Attributes in which this server or Samba keeps something else."""


def _is_private(share: Share, name: str) -> bool:
    return name.startswith(PRIVATE_PREFIXES) or f"user.{name}" == share.parameters.security_acl_name


def read_extended_attributes(share: Share, handle: Handle) -> list[FileFullEaInformation]:
    """Those of the `user.` name space whose names a client could have given."""
    return [
        FileFullEaInformation(name.encode(), value)
        for name, value in handle.extended_attributes().items()
        if name.isascii() and not _is_private(share, name)
    ]


def write_extended_attributes(share: Share, handle: Handle, buffer: Buffer) -> None:
    """Sets, or removes by an empty value, what a client gave as FILE_FULL_EA_INFORMATION."""
    for attribute in FileFullEaInformation.parse_all(buffer):
        try:
            name = attribute.ea_name.decode("ascii")
        except UnicodeDecodeError:
            raise StatusError(NtStatus.INVALID_EA_NAME) from None
        if not name or _is_private(share, name):
            raise StatusError(NtStatus.ACCESS_DENIED)
        handle.set_extended_attribute(name, attribute.ea_value)
