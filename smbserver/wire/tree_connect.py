"""TREE_CONNECT: entering a share ([MS-SMB2] 2.2.9, 2.2.10)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct

from smbserver.wire.bounds import (
    HEADER_SIZE,
    Buffer,
    slice_at,
    unpack_body,
    utf16_decode,
    utf16_encode,
)

_REQUEST = Struct("<HHHH")
_RESPONSE = Struct("<HBBIII")
_REQUEST_END = HEADER_SIZE + _REQUEST.size


class TreeConnectFlags(IntFlag):
    """Flags of the request in dialect 3.1.1."""

    CLUSTER_RECONNECT = 0x0001
    REDIRECT_TO_OWNER = 0x0002
    EXTENSION_PRESENT = 0x0004


class ShareType(IntEnum):
    """ShareType of the response."""

    DISK = 0x01
    PIPE = 0x02
    PRINT = 0x03


class ShareFlags(IntFlag):
    """ShareFlags of the response; the caching policy is a number in bits 4 and 5."""

    MANUAL_CACHING = 0x00000000
    DFS = 0x00000001
    DFS_ROOT = 0x00000002
    AUTO_CACHING = 0x00000010
    VDO_CACHING = 0x00000020
    NO_CACHING = 0x00000030
    RESTRICT_EXCLUSIVE_OPENS = 0x00000100
    FORCE_SHARED_DELETE = 0x00000200
    ALLOW_NAMESPACE_CACHING = 0x00000400
    ACCESS_BASED_DIRECTORY_ENUM = 0x00000800
    FORCE_LEVELII_OPLOCK = 0x00001000
    ENABLE_HASH_V1 = 0x00002000
    ENABLE_HASH_V2 = 0x00004000
    ENCRYPT_DATA = 0x00008000
    IDENTITY_REMOTING = 0x00040000
    COMPRESS_DATA = 0x00100000
    ISOLATED_TRANSPORT = 0x00200000


class ShareCapabilities(IntFlag):
    """Capabilities of the response."""

    DFS = 0x00000008
    CONTINUOUS_AVAILABILITY = 0x00000010
    SCALEOUT = 0x00000020
    CLUSTER = 0x00000040
    ASYMMETRIC = 0x00000080
    REDIRECT_TO_OWNER = 0x00000100


@dataclass(frozen=True, slots=True)
class TreeConnectRequest:
    """SMB2 TREE_CONNECT Request ([MS-SMB2] 2.2.9)."""

    path: str
    r"""`\\server\share`."""
    flags: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> TreeConnectRequest:
        flags, offset, length = unpack_body(_REQUEST, message, 9, "TREE_CONNECT request")
        path = slice_at(message, offset, length, _REQUEST_END, "PathName")
        return cls(utf16_decode(path, "PathName"), flags)

    def pack(self) -> bytes:
        path = utf16_encode(self.path)
        return _REQUEST.pack(9, self.flags, _REQUEST_END, len(path)) + path


@dataclass(frozen=True, slots=True)
class TreeConnectResponse:
    """SMB2 TREE_CONNECT Response ([MS-SMB2] 2.2.10)."""

    share_type: int
    share_flags: int = 0
    capabilities: int = 0
    maximal_access: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> TreeConnectResponse:
        share_type, _, flags, capabilities, access = unpack_body(
            _RESPONSE, message, 16, "TREE_CONNECT response"
        )
        return cls(share_type, flags, capabilities, access)

    def pack(self) -> bytes:
        return _RESPONSE.pack(
            16, self.share_type, 0, self.share_flags, self.capabilities, self.maximal_access
        )
