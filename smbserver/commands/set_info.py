"""SET_INFO ([MS-SMB2] 3.3.5.21, [MS-FSA] 2.1.5.14): times, sizes, names, deletion.

Each class has a row: the right it needs and the function that acts.
"""

from __future__ import annotations

import contextlib
import functools
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smbserver import access, file_security, share_modes
from smbserver.acting import as_user
from smbserver.dispatch import Reply
from smbserver.extended_attributes import write_extended_attributes
from smbserver.open import Open
from smbserver.vfs import dos_attributes as dos
from smbserver.vfs.directory import Directory
from smbserver.vfs.errors import status_of
from smbserver.vfs.file import File
from smbserver.vfs.names import parse_name
from smbserver.vfs.share import Location, Share
from smbserver.vfs.stream import Stream
from smbserver.vfs.watches import WATCHES
from smbserver.wire import file_information as info
from smbserver.wire.change_notify import CompletionFilter
from smbserver.wire.errors import Malformed
from smbserver.wire.file_information import FileInformationClass as FileClass
from smbserver.wire.filetime import to_unix_ns
from smbserver.wire.query_info import InfoType
from smbserver.wire.set_info import SetInfoRequest, SetInfoResponse
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.dispatch import Call
    from smbserver.oplock import Caching

_SETTABLE_MODE = 0x0000003E
_SETTABLE_ATTRIBUTES = 0x00007FB7
_KEEP = (0, -1, -2)
"""Times that are no times: leave alone, stop updating, resume updating ([MS-FSCC] 2.4.7)."""


@dataclass(frozen=True, slots=True)
class _Row:
    act: Callable[[Open, memoryview], None]
    right: int = 0


def serve(call: Call) -> Reply | Awaitable[Reply]:
    """Answers when the change is made; a rename waits until others have closed what they only keep open."""
    request = SetInfoRequest.parse(call.message)
    opened = call.open
    assert opened is not None  # the opcode table asks for it
    caching = call.connection.service.caching
    if request.info_type == InfoType.FILE:
        if request.file_info_class in _RENAMES and caching.closing_handles(opened):
            return _after_breaks(call, opened, caching)
        if request.file_info_class in _RESIZES and opened.granted_access & access.WRITE_DATA:
            caching.modified(opened)
    return _set(call)


async def _after_breaks(call: Call, opened: Open, caching: Caching) -> Reply:
    await caching.watch(opened.file.key)
    while caching.closing_handles(opened):
        await caching.watch(opened.file.key)
    if call.session is None or opened.volatile_id not in call.session.opens:
        raise StatusError(NtStatus.FILE_CLOSED)
    return _set(call)


@as_user
def _set(call: Call) -> Reply:
    request = SetInfoRequest.parse(call.message)
    opened = call.open
    assert opened is not None  # the opcode table asks for it
    if len(request.buffer) > call.connection.max_transact_size:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    row = _row(opened, request)
    if row.right and not opened.granted_access & row.right:
        raise StatusError(NtStatus.ACCESS_DENIED)
    try:
        row.act(opened, memoryview(request.buffer))
    except Malformed as error:
        raise StatusError(NtStatus.INFO_LENGTH_MISMATCH) from error
    except OSError as error:
        raise StatusError(status_of(error)) from error
    call.connection.service.durable_opens.changed(opened)
    return Reply(SetInfoResponse().pack())


def _row(opened: Open, request: SetInfoRequest) -> _Row:
    match request.info_type:
        case InfoType.FILE:
            row = _FILE.get(request.file_info_class)
            if row is None:
                raise StatusError(NtStatus.INVALID_INFO_CLASS)
            return row
        case InfoType.SECURITY:
            return _Row(functools.partial(_set_security, request.additional_information))
        case InfoType.FILESYSTEM | InfoType.QUOTA:
            raise StatusError(NtStatus.NOT_SUPPORTED)
    raise StatusError(NtStatus.INVALID_PARAMETER)


# security

_SECURITY_RIGHTS = (
    (file_security.OWNER | file_security.GROUP, access.WRITE_OWNER),
    (file_security.DACL, access.WRITE_DAC),
    (file_security.SACL, access.ACCESS_SYSTEM_SECURITY),
)


def _set_security(parts: int, opened: Open, buffer: memoryview) -> None:
    for part, right in _SECURITY_RIGHTS:
        if parts & part and not opened.granted_access & right:
            raise StatusError(NtStatus.ACCESS_DENIED)
    with WATCHES.meaning(CompletionFilter.SECURITY):
        file_security.change(_files_of(opened), opened.handle, parts, buffer)


# attributes


def _set_basic(opened: Open, buffer: memoryview) -> None:
    basic = info.FileBasicInformation.parse(buffer)
    times = (
        basic.creation_time,
        basic.last_access_time,
        basic.last_write_time,
        basic.change_time,
    )
    if any(time < -2 for time in times) or basic.file_attributes & ~_SETTABLE_ATTRIBUTES:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    forbidden = dos.TEMPORARY if opened.handle.is_directory else dos.DIRECTORY
    if basic.file_attributes & forbidden:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    created, accessed, written = (None if time in _KEEP else time for time in times[:3])
    kinds = CompletionFilter.ATTRIBUTES if basic.file_attributes else CompletionFilter(0)
    kinds |= CompletionFilter.CREATION if created is not None else 0
    kinds |= CompletionFilter.LAST_ACCESS if accessed is not None else 0
    kinds |= CompletionFilter.LAST_WRITE if written is not None else 0
    with WATCHES.meaning(kinds):
        _change_basic(opened, basic, created, accessed, written)


def _change_basic(
    opened: Open,
    basic: info.FileBasicInformation,
    created: int | None,
    accessed: int | None,
    written: int | None,
) -> None:
    handle = opened.handle
    if basic.file_attributes or created is not None:
        handle.set_attributes(basic.file_attributes or None, created, opened.is_hidden)
    if accessed is not None or written is not None:
        handle.set_times(
            None if accessed is None else to_unix_ns(accessed),
            None if written is None else to_unix_ns(written),
        )
    if basic.change_time not in _KEEP:
        handle.set_change_time(basic.change_time, opened.is_hidden)
    _entry_changed(opened, opened.path)


def _set_full_ea(opened: Open, buffer: memoryview) -> None:
    with WATCHES.meaning(CompletionFilter.EA):
        write_extended_attributes(_files_of(opened), opened.handle, buffer)


def _set_position(opened: Open, buffer: memoryview) -> None:
    position = info.FilePositionInformation.parse(buffer).current_byte_offset
    if position < 0:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    opened.position = position


def _set_mode(opened: Open, buffer: memoryview) -> None:
    mode = info.FileModeInformation.parse(buffer).mode
    if mode & ~_SETTABLE_MODE:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    opened.create_options = (opened.create_options & ~_SETTABLE_MODE) | mode
    opened.write_through = bool(mode & info.FileMode.WRITE_THROUGH)


# sizes


def _data(opened: Open, size: int) -> File | Stream:
    if isinstance(opened.handle, Directory) or size < 0:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    return opened.handle


def _set_end_of_file(opened: Open, buffer: memoryview) -> None:
    size = info.FileEndOfFileInformation.parse(buffer).end_of_file
    _data(opened, size).truncate(size)


def _set_allocation(opened: Open, buffer: memoryview) -> None:
    size = info.FileAllocationInformation.parse(buffer).allocation_size
    handle = _data(opened, size)
    if size < handle.size:
        handle.truncate(size)
    else:
        handle.allocate(size)


# deletion


def _set_disposition(opened: Open, buffer: memoryview) -> None:
    _mark_deleted(opened, info.FileDispositionInformation.parse(buffer).delete_pending)


def _set_disposition_ex(opened: Open, buffer: memoryview) -> None:
    flags = info.FileDispositionInformationEx.parse(buffer).flags
    delete = bool(flags & info.DispositionFlags.DELETE)
    if flags & info.DispositionFlags.ON_CLOSE:
        opened.delete_on_close = delete
        return
    ignore_readonly = bool(flags & info.DispositionFlags.IGNORE_READONLY_ATTRIBUTE)
    _mark_deleted(opened, delete, ignore_readonly=ignore_readonly)


def _mark_deleted(opened: Open, delete: bool, *, ignore_readonly: bool = False) -> None:
    if delete:
        if not opened.path and not isinstance(opened.handle, Stream):
            raise StatusError(NtStatus.ACCESS_DENIED)  # the share's folder itself
        attributes = opened.metadata().attributes
        if attributes & dos.READONLY and not ignore_readonly:
            raise StatusError(NtStatus.CANNOT_DELETE)
        if isinstance(opened.handle, Directory) and not opened.handle.is_empty():
            raise StatusError(NtStatus.DIRECTORY_NOT_EMPTY)
    opened.file.delete_pending = delete
    if delete:
        share_modes.announce_deletion(opened.file)
        if opened.entry is not None:
            opened.entry.deleting(opened.file.key)


# names


def _rename(opened: Open, buffer: memoryview) -> None:
    wanted = info.FileRenameInformation.parse(buffer)
    replace = bool(buffer[0] & 1)  # the other bits are flags of FILE_RENAME_INFORMATION_EX
    share = _share_of(opened, wanted)
    if isinstance(opened.handle, Stream):
        raise StatusError(NtStatus.NOT_SUPPORTED)
    if isinstance(opened.handle, Directory) and share_modes.is_open_below(
        opened.file.key[0], opened.path
    ):
        raise StatusError(NtStatus.ACCESS_DENIED)
    with contextlib.closing(_look_up_target(share, wanted.file_name)) as target:
        new = target.path
        if target.exists:
            if _is_same(opened, target):  # at most the case of letters changes
                folder, separator, _ = new.rpartition("/")
                new = folder + separator + parse_name(wanted.file_name).components[-1]
            else:
                _check_replaced(target, replace)
        _check_folder(share, new)
        share.rename(opened.path, new, replace=target.exists)
    old = opened.path
    share_modes.renamed(opened.file, new)
    _entry_changed(opened, old)
    _entry_changed(opened, new)


def _entry_changed(opened: Open, path: str) -> None:
    if opened.entry is not None:
        opened.entry.changed(path)


def _check_folder(share: Share, path: str) -> None:
    """A rename opens the target's folder to add an entry, and lets others only read and write it meanwhile."""
    key = (*share.folder_identity(path), "")
    share_modes.check(key, access.WRITE_DATA, share_modes.SHARE_READ | share_modes.SHARE_WRITE)


def _link(opened: Open, buffer: memoryview) -> None:
    wanted = info.FileLinkInformation.parse(buffer)
    share = _share_of(opened, wanted)
    if isinstance(opened.handle, Directory):
        raise StatusError(NtStatus.FILE_IS_A_DIRECTORY)
    if isinstance(opened.handle, Stream):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    with contextlib.closing(_look_up_target(share, wanted.file_name)) as target:
        if target.exists:
            if _is_same(opened, target):
                return
            _check_replaced(target, wanted.replace_if_exists)
        share.link(opened.handle.fd, target.path, replace=target.exists)
        _entry_changed(opened, target.path)


def _files_of(opened: Open) -> Share:
    share = opened.tree.vfs
    if share is None:  # a pipe lies in no folder
        raise StatusError(NtStatus.INVALID_DEVICE_REQUEST)
    return share


def _share_of(opened: Open, wanted: info.FileRenameInformation) -> Share:
    share = _files_of(opened)
    if wanted.root_directory or not wanted.file_name or not opened.path:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not opened.tree.maximal_access & access.WRITE_DATA:
        raise StatusError(NtStatus.ACCESS_DENIED)
    return share


def _look_up_target(share: Share, name: str) -> Location:
    parsed = parse_name(name)
    if parsed.stream or not parsed.components:
        raise StatusError(NtStatus.OBJECT_NAME_INVALID)
    return share.look_up(parsed)


def _is_same(opened: Open, target: Location) -> bool:
    facts = target.facts()
    return (facts.st_dev, facts.st_ino) == opened.handle.identity


def _check_replaced(target: Location, replace: bool) -> None:
    """Only a file that nobody has open makes room for another."""
    if not replace:
        raise StatusError(NtStatus.OBJECT_NAME_COLLISION)
    facts = target.facts()
    if stat.S_ISDIR(facts.st_mode) or share_modes.is_open((facts.st_dev, facts.st_ino, "")):
        raise StatusError(NtStatus.ACCESS_DENIED)
    stored = dos.read_dos_attributes(f"/proc/self/fd/{target.fd}")
    if stored is not None and stored.attributes & dos.READONLY:
        raise StatusError(NtStatus.ACCESS_DENIED)


_RENAMES = (FileClass.FILE_RENAME, FileClass.FILE_RENAME_EX)
_RESIZES = (FileClass.FILE_ALLOCATION, FileClass.FILE_END_OF_FILE)

_FILE: dict[int, _Row] = {
    FileClass.FILE_BASIC: _Row(_set_basic, access.WRITE_ATTRIBUTES),
    FileClass.FILE_RENAME: _Row(_rename, access.DELETE),
    FileClass.FILE_LINK: _Row(_link),
    FileClass.FILE_DISPOSITION: _Row(_set_disposition, access.DELETE),
    FileClass.FILE_POSITION: _Row(_set_position),
    FileClass.FILE_FULL_EA: _Row(_set_full_ea, access.WRITE_EA),
    FileClass.FILE_MODE: _Row(_set_mode),
    FileClass.FILE_ALLOCATION: _Row(_set_allocation, access.WRITE_DATA),
    FileClass.FILE_END_OF_FILE: _Row(_set_end_of_file, access.WRITE_DATA),
    FileClass.FILE_DISPOSITION_EX: _Row(_set_disposition_ex, access.DELETE),
    FileClass.FILE_RENAME_EX: _Row(_rename, access.DELETE),
}
