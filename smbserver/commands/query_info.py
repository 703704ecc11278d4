"""QUERY_INFO ([MS-SMB2] 3.3.5.20): of a file, of its file system, of its security.

Each class has a row: the fewest bytes a client must leave room for, the right it needs, the function that answers.
Answers that are longer than the client's buffer are cut and say BUFFER_OVERFLOW.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smbserver import access, file_security
from smbserver.acting import as_user
from smbserver.dispatch import Reply
from smbserver.extended_attributes import read_extended_attributes
from smbserver.open import Open
from smbserver.quota_file import QuotaFile
from smbserver.vfs.errors import status_of
from smbserver.vfs.metadata import Metadata
from smbserver.vfs.share import Share
from smbserver.vfs.short_names import short_name, shown_name
from smbserver.vfs.stream import Stream
from smbserver.vfs.volume import SECTOR_SIZE, Volume
from smbserver.wire import file_information as info
from smbserver.wire import filesystem_information as fs
from smbserver.wire.file_information import FileInformationClass as FileClass
from smbserver.wire.filesystem_information import FsInformationClass as FsClass
from smbserver.wire.filetime import from_unix_ns
from smbserver.wire.negotiate import Dialect
from smbserver.wire.query_info import InfoType, QueryInfoRequest, QueryInfoResponse
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.dispatch import Call

_MODE = int(
    info.FileMode.WRITE_THROUGH
    | info.FileMode.SEQUENTIAL_ONLY
    | info.FileMode.NO_INTERMEDIATE_BUFFERING
    | info.FileMode.SYNCHRONOUS_IO_ALERT
    | info.FileMode.SYNCHRONOUS_IO_NONALERT
    | info.FileMode.DELETE_ON_CLOSE
)

_FS_ATTRIBUTES = int(
    fs.FileSystemAttributes.CASE_SENSITIVE_SEARCH
    | fs.FileSystemAttributes.CASE_PRESERVED_NAMES
    | fs.FileSystemAttributes.UNICODE_ON_DISK
    | fs.FileSystemAttributes.PERSISTENT_ACLS
    | fs.FileSystemAttributes.SUPPORTS_SPARSE_FILES
    | fs.FileSystemAttributes.NAMED_STREAMS
    | fs.FileSystemAttributes.SUPPORTS_HARD_LINKS
    | fs.FileSystemAttributes.SUPPORTS_EXTENDED_ATTRIBUTES
)

_SECURITY_PARTS = file_security.OWNER | file_security.GROUP | file_security.DACL


@dataclass(frozen=True, slots=True)
class _Row:
    answer: Callable[[Open], bytes]
    least: int
    right: int = 0


@as_user
def serve(call: Call) -> Reply:
    """Answers with the information asked for, or as much of it as there is room for."""
    request = QueryInfoRequest.parse(call.message)
    opened = call.open
    assert opened is not None  # the opcode table asks for it
    if request.output_buffer_length > call.connection.max_transact_size:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    try:
        match request.info_type:
            case InfoType.FILE:
                return _reply(_row(_FILE, request), opened, request, call)
            case InfoType.FILESYSTEM:
                return _reply(_row(_FILESYSTEM, request), opened, request, call)
            case InfoType.SECURITY:
                return _serve_security(opened, request)
            case InfoType.QUOTA:
                raise StatusError(_no_quota(opened))
    except OSError as error:
        raise StatusError(status_of(error)) from error
    raise StatusError(NtStatus.INVALID_PARAMETER)


def _no_quota(opened: Open) -> NtStatus:
    """[MS-SMB2] 3.3.5.20.4: the list is empty; other files than its own have none."""
    is_its_own = isinstance(opened.handle, QuotaFile)
    return NtStatus.NO_MORE_ENTRIES if is_its_own else NtStatus.INVALID_HANDLE


def _row(table: dict[int, _Row], request: QueryInfoRequest) -> _Row:
    row = table.get(request.file_info_class)
    if row is None:
        raise StatusError(NtStatus.INVALID_INFO_CLASS)
    return row


def _reply(row: _Row, opened: Open, request: QueryInfoRequest, call: Call) -> Reply:
    if (
        request.file_info_class == FileClass.FILE_NORMALIZED_NAME
        and request.info_type == InfoType.FILE
        and call.connection.dialect != Dialect.SMB_3_1_1
    ):
        raise StatusError(NtStatus.NOT_SUPPORTED)
    if row.right and not opened.granted_access & row.right:
        raise StatusError(NtStatus.ACCESS_DENIED)
    if request.output_buffer_length < row.least:
        raise StatusError(NtStatus.INFO_LENGTH_MISMATCH)
    data = row.answer(opened)
    if len(data) > request.output_buffer_length:
        cut = QueryInfoResponse(data[: request.output_buffer_length])
        return Reply(cut.pack(), NtStatus.BUFFER_OVERFLOW)
    return Reply(QueryInfoResponse(data).pack())


def _share_of(opened: Open) -> Share:
    share = opened.tree.vfs
    if share is None:  # a pipe lies in no file system
        raise StatusError(NtStatus.INVALID_DEVICE_REQUEST)
    return share


# InfoType FILE


def _basic(facts: Metadata) -> info.FileBasicInformation:
    return info.FileBasicInformation(
        facts.creation_time,
        facts.last_access_time,
        facts.last_write_time,
        facts.change_time,
        facts.attributes,
    )


def _standard(opened: Open, facts: Metadata) -> info.FileStandardInformation:
    pending = opened.file.delete_pending
    links = max(facts.links - pending, 0)
    return info.FileStandardInformation(
        facts.allocation, facts.size, links, pending, facts.is_directory
    )


def _internal(opened: Open) -> info.FileInternalInformation:
    return info.FileInternalInformation(opened.handle.identity[1])


def _ea(opened: Open) -> info.FileEaInformation:
    return info.FileEaInformation(
        len(
            info.FileFullEaInformation.pack_all(
                read_extended_attributes(_share_of(opened), opened.handle)
            )
        )
    )


def _full_ea(opened: Open) -> bytes:
    attributes = read_extended_attributes(_share_of(opened), opened.handle)
    if not attributes:
        raise StatusError(NtStatus.NO_EAS_ON_FILE)
    return info.FileFullEaInformation.pack_all(attributes)


def _name(opened: Open) -> info.FileNameInformation:
    return info.FileNameInformation("\\" + _path(opened))


def _normalized_name(opened: Open) -> bytes:
    return info.FileNameInformation(_path(opened)).pack()


def _path(opened: Open) -> str:
    path = "\\".join(map(shown_name, opened.path.split("/")))
    if isinstance(opened.handle, Stream):
        path += f":{opened.handle.name}"
    return path


def _alternate_name(opened: Open) -> bytes:
    return info.FileNameInformation(short_name(opened.name)).pack()


def _mode(opened: Open) -> info.FileModeInformation:
    return info.FileModeInformation(opened.create_options & _MODE)


def _all(opened: Open) -> bytes:
    facts = opened.metadata()
    return info.FileAllInformation(
        _basic(facts),
        _standard(opened, facts),
        info.FileInternalInformation(facts.inode),
        _ea(opened),
        info.FileAccessInformation(opened.granted_access),
        info.FilePositionInformation(opened.position),
        _mode(opened),
        info.FileAlignmentInformation(),
        _name(opened),
    ).pack()


def _network_open(opened: Open) -> bytes:
    facts = opened.metadata()
    return info.FileNetworkOpenInformation(
        facts.creation_time,
        facts.last_access_time,
        facts.last_write_time,
        facts.change_time,
        facts.allocation,
        facts.size,
        facts.attributes,
    ).pack()


def _attribute_tag(opened: Open) -> bytes:
    return info.FileAttributeTagInformation(opened.metadata().attributes).pack()


def _streams(opened: Open) -> bytes:
    streams = []
    if not opened.handle.is_directory:
        facts = opened.handle.file_metadata()
        streams.append(info.FileStreamInformation("::$DATA", facts.size, facts.allocation))
    for name, size in opened.handle.streams():
        streams.append(info.FileStreamInformation(f":{name}:$DATA", size, size))
    return info.FileStreamInformation.pack_all(streams)


def _compression(opened: Open) -> bytes:
    return info.FileCompressionInformation(opened.metadata().allocation).pack()


def _file_id(opened: Open) -> bytes:
    device, inode = opened.handle.identity
    return info.FileIdInformation(device, inode.to_bytes(16, "little")).pack()


_FILE: dict[int, _Row] = {
    FileClass.FILE_BASIC: _Row(
        lambda one: _basic(one.metadata()).pack(), 40, access.READ_ATTRIBUTES
    ),
    FileClass.FILE_STANDARD: _Row(lambda one: _standard(one, one.metadata()).pack(), 24),
    FileClass.FILE_INTERNAL: _Row(lambda one: _internal(one).pack(), 8),
    FileClass.FILE_EA: _Row(lambda one: _ea(one).pack(), 4),
    FileClass.FILE_ACCESS: _Row(
        lambda one: info.FileAccessInformation(one.granted_access).pack(), 4
    ),
    FileClass.FILE_NAME: _Row(lambda one: _name(one).pack(), 8),
    FileClass.FILE_POSITION: _Row(lambda one: info.FilePositionInformation(one.position).pack(), 8),
    FileClass.FILE_FULL_EA: _Row(_full_ea, 8, access.READ_EA),
    FileClass.FILE_MODE: _Row(lambda one: _mode(one).pack(), 4),
    FileClass.FILE_ALIGNMENT: _Row(lambda one: info.FileAlignmentInformation().pack(), 4),
    FileClass.FILE_ALL: _Row(_all, 104, access.READ_ATTRIBUTES),
    FileClass.FILE_ALTERNATE_NAME: _Row(_alternate_name, 8),
    FileClass.FILE_STREAM: _Row(_streams, 32),
    FileClass.FILE_COMPRESSION: _Row(_compression, 16),
    FileClass.FILE_NETWORK_OPEN: _Row(_network_open, 56, access.READ_ATTRIBUTES),
    FileClass.FILE_ATTRIBUTE_TAG: _Row(_attribute_tag, 8, access.READ_ATTRIBUTES),
    FileClass.FILE_NORMALIZED_NAME: _Row(_normalized_name, 8),
    FileClass.FILE_ID: _Row(_file_id, 24),
}


# InfoType FILESYSTEM


def _volume_of(opened: Open) -> tuple[str, Volume]:
    return opened.tree.share.name, _share_of(opened).volume()


def _fs_volume(opened: Open) -> bytes:
    name, volume = _volume_of(opened)
    created = from_unix_ns(volume.creation_time_ns)
    return fs.FileFsVolumeInformation(created, volume.serial_number, name).pack()


def _fs_size(opened: Open) -> bytes:
    _, volume = _volume_of(opened)
    return fs.FileFsSizeInformation(
        volume.total_units, volume.available_units, volume.sectors_per_unit, SECTOR_SIZE
    ).pack()


def _fs_full_size(opened: Open) -> bytes:
    _, volume = _volume_of(opened)
    return fs.FileFsFullSizeInformation(
        volume.total_units,
        volume.available_units,
        volume.free_units,
        volume.sectors_per_unit,
        SECTOR_SIZE,
    ).pack()


def _fs_device(opened: Open) -> bytes:
    return fs.FileFsDeviceInformation().pack()


def _fs_attribute(opened: Open) -> bytes:
    attributes = _FS_ATTRIBUTES
    if not opened.tree.share.has_streams:
        attributes &= ~fs.FileSystemAttributes.NAMED_STREAMS
    if not opened.tree.maximal_access & access.WRITE_DATA:
        attributes |= fs.FileSystemAttributes.READ_ONLY_VOLUME
    _, volume = _volume_of(opened)
    return fs.FileFsAttributeInformation(attributes, "NTFS", volume.max_name_length).pack()


def _fs_object_id(opened: Open) -> bytes:
    _, volume = _volume_of(opened)
    return fs.FileFsObjectIdInformation(volume.serial_number.to_bytes(16, "little")).pack()


def _fs_sector_size(opened: Open) -> bytes:
    return fs.FileFsSectorSizeInformation().pack()


_FILESYSTEM: dict[int, _Row] = {
    FsClass.FILE_FS_VOLUME: _Row(_fs_volume, 24),
    FsClass.FILE_FS_SIZE: _Row(_fs_size, 24),
    FsClass.FILE_FS_DEVICE: _Row(_fs_device, 8),
    FsClass.FILE_FS_ATTRIBUTE: _Row(_fs_attribute, 16),
    FsClass.FILE_FS_CONTROL: _Row(lambda one: fs.FileFsControlInformation().pack(), 48),
    FsClass.FILE_FS_FULL_SIZE: _Row(_fs_full_size, 32),
    FsClass.FILE_FS_OBJECT_ID: _Row(_fs_object_id, 64),
    FsClass.FILE_FS_SECTOR_SIZE: _Row(_fs_sector_size, 28),
}

# InfoType SECURITY


def _serve_security(opened: Open, request: QueryInfoRequest) -> Reply:
    parts = request.additional_information
    if parts & file_security.SACL and not opened.granted_access & access.ACCESS_SYSTEM_SECURITY:
        raise StatusError(NtStatus.ACCESS_DENIED)
    if parts & _SECURITY_PARTS and not opened.granted_access & access.READ_CONTROL:
        raise StatusError(NtStatus.ACCESS_DENIED)
    data = file_security.effective(_share_of(opened), opened.handle, parts).pack()
    if len(data) > request.output_buffer_length:
        raise StatusError(NtStatus.BUFFER_TOO_SMALL, len(data).to_bytes(4, "little"))
    return Reply(QueryInfoResponse(data).pack())
