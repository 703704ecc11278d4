"""The server service ([MS-SRVS]): which shares there are, and who the server is."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial

from smbserver.config import Config
from smbserver.parameters import Share, server_name
from smbserver.pipes.dcerpc import Interface
from smbserver.pipes.ndr import Reader, Writer
from smbserver.wire.bounds import Buffer

UUID = uuid.UUID("4b324fc8-1670-01d3-1278-5a47bf6ee188").bytes_le
VERSION = 3

SHARE_ENUM, SHARE_GET_INFO, SERVER_GET_INFO = 15, 16, 21
_DISK, _IPC = 0, 0x80000003
_SUCCESS, _INVALID_LEVEL, _NO_SUCH_SHARE = 0, 124, 2310
_NT, _MAJOR, _MINOR, _SERVER = 500, 6, 1, 0x00809003
_UNLIMITED = 0xFFFFFFFF

IPC = Share(name="IPC$", comment="IPC Service")


def interface(config: Config) -> Interface:
    """The calls that are offered, for this configuration."""
    shares = [one for one in config.shares.values() if one.available] + [IPC]
    shown = [one for one in shares if one.browseable]
    calls = {
        SHARE_ENUM: partial(_share_enum, shown),
        SHARE_GET_INFO: partial(_share_get_info, shares),
        SERVER_GET_INFO: partial(_server_get_info, server_name(config.general)),
    }
    return Interface("srvsvc", UUID, VERSION, calls)


def _put(writer: Writer, share: Share, level: int) -> None:
    """SHARE_INFO_0, 1 and 2 ([MS-SRVS] 2.2.4.22 to 24)."""
    writer.text(share.name)
    if level >= 1:
        writer.number(_IPC if share.name.upper() == "IPC$" else _DISK)
        writer.text(share.comment)
    if level >= 2:
        writer.number(0, _UNLIMITED, 0)
        writer.text("C:\\")  # where it lies is nobody's business
        writer.number(0)


def _share_enum(shares: Sequence[Share], stub: Buffer) -> bytes:
    """NetrShareEnum ([MS-SRVS] 3.1.4.8)."""
    reader, writer = Reader(stub), Writer()
    reader.optional_text()
    level = reader.number()
    writer.number(level, level)
    if level > 2:
        writer.number(0, 0, 0, _INVALID_LEVEL)
        return writer.data
    writer.pointer()
    writer.number(len(shares))
    writer.pointer()
    writer.number(len(shares))
    for share in shares:
        _put(writer, share, level)
    writer.follow()
    writer.number(len(shares), 0, _SUCCESS)
    return writer.data


def _share_get_info(shares: Sequence[Share], stub: Buffer) -> bytes:
    """NetrShareGetInfo ([MS-SRVS] 3.1.4.10)."""
    reader, writer = Reader(stub), Writer()
    reader.optional_text()
    name, level = reader.text().upper(), reader.number()
    writer.number(level)
    found = next((one for one in shares if one.name.upper() == name), None)
    if found is None or level > 2:
        writer.number(0, _NO_SUCH_SHARE if found is None else _INVALID_LEVEL)
        return writer.data
    writer.pointer()
    _put(writer, found, level)
    writer.follow()
    writer.number(_SUCCESS)
    return writer.data


def _server_get_info(name: str, stub: Buffer) -> bytes:
    """NetrServerGetInfo ([MS-SRVS] 3.1.4.17), levels 100 and 101."""
    reader, writer = Reader(stub), Writer()
    reader.optional_text()
    level = reader.number()
    writer.number(level)
    if level not in (100, 101):
        writer.number(0, _INVALID_LEVEL)
        return writer.data
    writer.pointer()
    writer.number(_NT)
    writer.text(name)
    if level == 101:
        writer.number(_MAJOR, _MINOR, _SERVER)
        writer.text("")
    writer.follow()
    writer.number(_SUCCESS)
    return writer.data
