"""CREATE: opening or making a file, directory or pipe ([MS-SMB2] 2.2.13, 2.2.14)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct

from smbserver.wire.bounds import (
    HEADER_SIZE,
    Buffer,
    padding,
    slice_at,
    unpack_body,
    utf16_decode,
    utf16_encode,
)
from smbserver.wire.create_contexts import CreateContext, pack_contexts, parse_contexts
from smbserver.wire.file_id import FileId

_REQUEST = Struct("<HBBIQQIIIIIHHII")
_RESPONSE = Struct("<HBBIqqqqqqIIQQII")
_REQUEST_END = HEADER_SIZE + _REQUEST.size
_RESPONSE_END = HEADER_SIZE + _RESPONSE.size


class OplockLevel(IntEnum):
    """RequestedOplockLevel and OplockLevel."""

    NONE = 0x00
    II = 0x01
    EXCLUSIVE = 0x08
    BATCH = 0x09
    LEASE = 0xFF


class ImpersonationLevel(IntEnum):
    """ImpersonationLevel."""

    ANONYMOUS = 0
    IDENTIFICATION = 1
    IMPERSONATION = 2
    DELEGATE = 3


class ShareAccess(IntFlag):
    """ShareAccess."""

    READ = 0x00000001
    WRITE = 0x00000002
    DELETE = 0x00000004


class CreateDisposition(IntEnum):
    """CreateDisposition."""

    SUPERSEDE = 0
    OPEN = 1
    CREATE = 2
    OPEN_IF = 3
    OVERWRITE = 4
    OVERWRITE_IF = 5


class CreateOptions(IntFlag):
    """CreateOptions."""

    DIRECTORY_FILE = 0x00000001
    WRITE_THROUGH = 0x00000002
    SEQUENTIAL_ONLY = 0x00000004
    NO_INTERMEDIATE_BUFFERING = 0x00000008
    SYNCHRONOUS_IO_ALERT = 0x00000010
    SYNCHRONOUS_IO_NONALERT = 0x00000020
    NON_DIRECTORY_FILE = 0x00000040
    COMPLETE_IF_OPLOCKED = 0x00000100
    NO_EA_KNOWLEDGE = 0x00000200
    OPEN_REMOTE_INSTANCE = 0x00000400
    RANDOM_ACCESS = 0x00000800
    DELETE_ON_CLOSE = 0x00001000
    OPEN_BY_FILE_ID = 0x00002000
    OPEN_FOR_BACKUP_INTENT = 0x00004000
    NO_COMPRESSION = 0x00008000
    OPEN_REQUIRING_OPLOCK = 0x00010000
    DISALLOW_EXCLUSIVE = 0x00020000
    RESERVE_OPFILTER = 0x00100000
    OPEN_REPARSE_POINT = 0x00200000
    OPEN_NO_RECALL = 0x00400000
    OPEN_FOR_FREE_SPACE_QUERY = 0x00800000


class CreateAction(IntEnum):
    """CreateAction of the response: what happened."""

    SUPERSEDED = 0
    OPENED = 1
    CREATED = 2
    OVERWRITTEN = 3


class CreateFlags(IntFlag):
    """Flags of the response."""

    REPARSEPOINT = 0x01


class FileAttributes(IntFlag):
    """FileAttributes ([MS-FSCC] 2.6)."""

    READONLY = 0x00000001
    HIDDEN = 0x00000002
    SYSTEM = 0x00000004
    DIRECTORY = 0x00000010
    ARCHIVE = 0x00000020
    NORMAL = 0x00000080
    TEMPORARY = 0x00000100
    SPARSE_FILE = 0x00000200
    REPARSE_POINT = 0x00000400
    COMPRESSED = 0x00000800
    OFFLINE = 0x00001000
    NOT_CONTENT_INDEXED = 0x00002000
    ENCRYPTED = 0x00004000
    INTEGRITY_STREAM = 0x00008000
    NO_SCRUB_DATA = 0x00020000


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """SMB2 CREATE Request ([MS-SMB2] 2.2.13)."""

    name: str
    desired_access: int = 0
    file_attributes: int = 0
    share_access: int = 0
    create_disposition: int = CreateDisposition.OPEN
    create_options: int = 0
    requested_oplock_level: int = OplockLevel.NONE
    impersonation_level: int = ImpersonationLevel.IMPERSONATION
    create_contexts: tuple[CreateContext, ...] = ()
    smb_create_flags: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> CreateRequest:
        (_, oplock, impersonation, create_flags, _, access, attributes, share, *rest) = unpack_body(
            _REQUEST, message, 57, "CREATE request"
        )
        disposition, options, name_offset, name_length, offset, length = rest
        name = slice_at(message, name_offset, name_length, _REQUEST_END, "Name")
        contexts = slice_at(message, offset, length, _REQUEST_END, "CreateContexts")
        return cls(
            utf16_decode(name, "Name"),
            access,
            attributes,
            share,
            disposition,
            options,
            oplock,
            impersonation,
            parse_contexts(contexts),
            create_flags,
        )

    def pack(self) -> bytes:
        name = utf16_encode(self.name)
        contexts = pack_contexts(self.create_contexts)
        gap = padding(len(name)) if contexts else b""
        offset = _REQUEST_END + len(name) + len(gap) if contexts else 0
        fixed = _REQUEST.pack(
            57,
            0,
            self.requested_oplock_level,
            self.impersonation_level,
            self.smb_create_flags,
            0,
            self.desired_access,
            self.file_attributes,
            self.share_access,
            self.create_disposition,
            self.create_options,
            _REQUEST_END,
            len(name),
            offset,
            len(contexts),
        )
        # StructureSize 57 counts one byte of buffer, which is there even if nothing is in it.
        return fixed + (name + gap + contexts or b"\0")


@dataclass(frozen=True, slots=True)
class CreateResponse:
    """SMB2 CREATE Response ([MS-SMB2] 2.2.14)."""

    file_id: FileId
    create_action: int = CreateAction.OPENED
    oplock_level: int = OplockLevel.NONE
    creation_time: int = 0
    last_access_time: int = 0
    last_write_time: int = 0
    change_time: int = 0
    allocation_size: int = 0
    end_of_file: int = 0
    file_attributes: int = 0
    create_contexts: tuple[CreateContext, ...] = ()
    flags: int = 0

    @classmethod
    def parse(cls, message: Buffer) -> CreateResponse:
        oplock, flags, action, created, accessed, written, changed, *rest = unpack_body(
            _RESPONSE, message, 89, "CREATE response"
        )
        allocation, end_of_file, attributes, _, persistent, volatile, offset, length = rest
        contexts = slice_at(message, offset, length, _RESPONSE_END, "CreateContexts")
        return cls(
            FileId(persistent, volatile),
            action,
            oplock,
            created,
            accessed,
            written,
            changed,
            allocation,
            end_of_file,
            attributes,
            parse_contexts(contexts),
            flags,
        )

    def pack(self) -> bytes:
        contexts = pack_contexts(self.create_contexts)
        fixed = _RESPONSE.pack(
            89,
            self.oplock_level,
            self.flags,
            self.create_action,
            self.creation_time,
            self.last_access_time,
            self.last_write_time,
            self.change_time,
            self.allocation_size,
            self.end_of_file,
            self.file_attributes,
            0,
            *self.file_id,
            _RESPONSE_END if contexts else 0,
            len(contexts),
        )
        return fixed + contexts
