"""CREATE ([MS-SMB2] 3.3.5.9, [MS-FSA] 2.1.5.1): opens or makes a file, directory or stream.

1. parse, check what can be checked without looking at the disk;
2. look the name up: from here on the object found is what counts, whatever becomes of the name;
3. open what exists or create what does not; a name that appears in between is looked up again;
4. the open joins the others of its file and gets a FileId;
5. the reply tells attributes and answers the create contexts.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smbserver import access, file_security, locks, share_modes
from smbserver.acting import acting_for
from smbserver.create_response import answer
from smbserver.dispatch import Reply
from smbserver.durable import reconnect, replay
from smbserver.durable.opens import Vanished
from smbserver.durable.request import DurabilityRequest
from smbserver.extended_attributes import write_extended_attributes
from smbserver.folder_entry import FolderEntry
from smbserver.lease import Wish
from smbserver.open import MAX_OPENS, Open
from smbserver.oplock import Attempt, MustWait, ParkedMeanwhile
from smbserver.pipes.pipe import open_pipe
from smbserver.quota_file import is_quota_file, open_quota_file
from smbserver.vfs import dos_attributes as dos
from smbserver.vfs.directory import Directory
from smbserver.vfs.dos_attributes import read_dos_attributes
from smbserver.vfs.errors import status_of
from smbserver.vfs.file import File
from smbserver.vfs.names import ShareName, fold, parse_name
from smbserver.vfs.share import Location, Share
from smbserver.vfs.stream import Stream
from smbserver.vfs.stream_attributes import find_stream
from smbserver.vfs.watches import WATCHES
from smbserver.wire import create_contexts as contexts
from smbserver.wire.create import (
    CreateAction,
    CreateDisposition,
    CreateOptions,
    CreateRequest,
    ImpersonationLevel,
)
from smbserver.wire.create_contexts import find_context
from smbserver.wire.negotiate import Capabilities
from smbserver.wire.security_descriptor import SecurityDescriptor
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.dispatch import Call
    from smbserver.user import User

RACES = 8
"""How often a name is looked up again because somebody made it, or left it, meanwhile."""

_DIRECTORY_FILE = int(CreateOptions.DIRECTORY_FILE)
_NON_DIRECTORY_FILE = int(CreateOptions.NON_DIRECTORY_FILE)
_WRITE_THROUGH = int(CreateOptions.WRITE_THROUGH)
_DELETE_ON_CLOSE = int(CreateOptions.DELETE_ON_CLOSE)
_CREATE_TREE_CONNECTION = 0x80
_NOT_SUPPORTED = _CREATE_TREE_CONNECTION | int(
    CreateOptions.OPEN_BY_FILE_ID | CreateOptions.RESERVE_OPFILTER
)
_RESERVED_OPTIONS = 0xFF000000

_SHORTEST_NAME = 4
"""Bytes of a create context's name ([MS-SMB2] 2.2.13.2)."""

_VALID_ATTRIBUTES = 0x00007FB7
_NOT_INHERITABLE = dos.HIDDEN | dos.SYSTEM

_MAKES = (
    CreateDisposition.SUPERSEDE,
    CreateDisposition.CREATE,
    CreateDisposition.OPEN_IF,
    CreateDisposition.OVERWRITE_IF,
)
_OVERWRITES = {
    CreateDisposition.SUPERSEDE: CreateAction.SUPERSEDED,
    CreateDisposition.OVERWRITE: CreateAction.OVERWRITTEN,
    CreateDisposition.OVERWRITE_IF: CreateAction.OVERWRITTEN,
}


@dataclass(slots=True)
class _Wanted:
    """The request, with names, rights and contexts taken apart."""

    request: CreateRequest
    name: ShareName
    desired: int
    maximal: int
    directory: bool
    """Only a directory will do."""
    file: bool
    """Only a file will do."""
    delete_on_close: bool
    allocation: int
    wish: Wish
    durability: DurabilityRequest
    sequence: int
    """ChannelSequence; noted here because an interim response takes its place in the header."""
    again: bool = False
    """It has waited for a break."""
    admitted: tuple[Attempt, int] | None = None
    """What joins the file's other opens, and what it may cache."""


def serve(call: Call) -> Reply | Awaitable[Reply]:
    """Answers with a FileId and what the file is; waits where others must give caching back first."""
    request = CreateRequest.parse(call.message)
    asked = DurabilityRequest.of(request.create_contexts)
    if asked.reconnect_version:
        return reconnect.serve(call, request, asked)
    if asked.has_create_guid:
        return replay.serve(call, request, asked, lambda: _create_or_wait(call, request, asked))
    return _create_or_wait(call, request, asked)


def _create_or_wait(
    call: Call, request: CreateRequest, asked: DurabilityRequest
) -> Reply | Awaitable[Reply]:
    wanted = _check(call, request, asked)
    try:
        return _attempt(call, wanted)
    except MustWait as wait:
        if not call.connection.may_wait():
            raise StatusError(NtStatus.INSUFFICIENT_RESOURCES) from wait
        return _wait(call, wanted, call.connection.service.caching.watch(wait.file))


async def _wait(call: Call, wanted: _Wanted, changed: Awaitable[None]) -> Reply:
    caching = call.connection.service.caching
    wanted.again = True
    while True:
        await changed
        tree, session = call.tree, call.session
        if tree is None or session is None or session.trees.get(tree.id) is not tree:
            raise StatusError(NtStatus.NETWORK_NAME_DELETED)
        try:
            return _attempt(call, wanted)
        except MustWait as wait:
            changed = caching.watch(wait.file)


def _attempt(call: Call, wanted: _Wanted) -> Reply:
    with acting_for(call.tree):
        return _serve(call, wanted)


def _serve(call: Call, wanted: _Wanted) -> Reply:
    request = wanted.request
    assert call.tree is not None
    assert call.session is not None
    share = call.tree.vfs
    if len(call.session.opens) >= MAX_OPENS:
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    if share is None:
        return _answer_special(call, wanted, _open_pipe(call, wanted))
    if is_quota_file(wanted.name):
        return _answer_special(call, wanted, open_quota_file(call.tree, wanted.desired))
    try:
        with WATCHES.meaning(0):  # the attributes of a new file are part of its making
            opened, action = _open(call, share, wanted)
        opened.create_action = int(action)
        try:
            service = call.connection.service
            holding = service.caching.of(opened)
            service.durable_opens.grant(opened, wanted.durability, holding)
            reply = answer(opened, request, holding)
        except BaseException:
            opened.close()
            raise
    except OSError as error:
        raise StatusError(status_of(error)) from error
    call.session.opens[opened.volatile_id] = opened
    call.chain.open = opened
    service.replays.note(opened, wanted.durability.create_guid)
    return reply


def _open_pipe(call: Call, wanted: _Wanted) -> Open:
    assert call.tree is not None
    granted = access.grant(wanted.desired, wanted.maximal)
    config = call.connection.service.config
    return open_pipe(call.tree, config, wanted.request.name, granted)


def _answer_special(call: Call, wanted: _Wanted, opened: Open) -> Reply:
    """For what is no file: it is never made, and nothing of it is cached."""
    assert call.session is not None
    opened.create_action = int(CreateAction.OPENED)
    call.session.opens[opened.volatile_id] = opened
    call.chain.open = opened
    return answer(opened, wanted.request)


# 1. check


def _check(call: Call, request: CreateRequest, durability: DurabilityRequest) -> _Wanted:
    options = request.create_options
    if request.impersonation_level > ImpersonationLevel.DELEGATE:
        raise StatusError(NtStatus.BAD_IMPERSONATION_LEVEL)
    desired = access.expand(request.desired_access)
    if (
        request.create_disposition > CreateDisposition.OVERWRITE_IF
        or options & _RESERVED_OPTIONS
        or (options & _DIRECTORY_FILE and options & _NON_DIRECTORY_FILE)
        or request.file_attributes & ~_VALID_ATTRIBUTES
        or request.share_access & ~7
    ):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if options & _NOT_SUPPORTED:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    if options & _DIRECTORY_FILE and request.create_disposition in _OVERWRITES:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    deletes = bool(options & _DELETE_ON_CLOSE)
    if deletes and not desired & (access.DELETE | access.MAXIMUM_ALLOWED):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    assert call.tree is not None
    maximal = call.tree.maximal_access
    access.grant(desired, maximal)
    name = parse_name(request.name)
    if ":" in request.name and not call.tree.share.has_streams:
        raise StatusError(NtStatus.OBJECT_NAME_INVALID)
    if options & _DIRECTORY_FILE and (name.stream or name.must_be == "file"):
        raise StatusError(NtStatus.NOT_A_DIRECTORY)
    return _Wanted(
        request,
        name,
        desired,
        maximal,
        bool(options & _DIRECTORY_FILE) or name.must_be == "directory",
        bool(options & _NON_DIRECTORY_FILE) or bool(name.stream) or name.must_be == "file",
        deletes,
        _check_contexts(request),
        _wish(call, request),
        durability,
        call.header.channel_sequence,
    )


def _check_contexts(request: CreateRequest) -> int:
    """Refuses what cannot be given; the allocation size asked for. Contexts unknown to us are passed over."""
    allocation = 0
    for context in request.create_contexts:
        if len(context.name) < _SHORTEST_NAME:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        if context.name == contexts.ALLOCATION_SIZE:
            allocation = contexts.AllocationSize.parse(context.data).allocation_size
        elif context.name == contexts.TIMEWARP_TOKEN:
            contexts.TimewarpToken.parse(context.data)
            raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)  # there are no snapshots
    return allocation


def _wish(call: Call, request: CreateRequest) -> Wish:
    """The oplock or lease asked for, where the share and the server give any."""
    found = find_context(request.create_contexts, contexts.REQUEST_LEASE)
    lease = contexts.Lease.parse(found.data) if found is not None else None
    assert call.tree is not None
    connection = call.connection
    leases = bool(connection.capabilities & Capabilities.LEASING)
    if not call.tree.share.oplocks:
        return Wish()
    return Wish.of(
        request.requested_oplock_level, lease if leases else None, connection.client_guid
    )


def _limit_to_folder(call: Call, wanted: _Wanted) -> None:
    """What is opened is a folder: caching it is another matter."""
    folders = bool(call.connection.capabilities & Capabilities.DIRECTORY_LEASING)
    wanted.wish = wanted.wish.for_folder() if folders else Wish()


# 2. and 3. look up, then open or create


def _open(call: Call, share: Share, wanted: _Wanted) -> tuple[Open, CreateAction]:
    for _ in range(RACES):
        location = share.look_up(wanted.name)
        with contextlib.closing(location):
            try:
                if wanted.name.stream:
                    return _open_stream(call, share, location, wanted)
                if location.exists:
                    return _open_existing(call, share, location, wanted)
                return _create(call, share, location, wanted), CreateAction.CREATED
            except (FileExistsError, Vanished, ParkedMeanwhile):
                continue
    raise StatusError(NtStatus.OBJECT_NAME_COLLISION)


def _open_existing(
    call: Call, share: Share, location: Location, wanted: _Wanted
) -> tuple[Open, CreateAction]:
    disposition = wanted.request.create_disposition
    if disposition == CreateDisposition.CREATE:
        raise StatusError(NtStatus.OBJECT_NAME_COLLISION)
    facts = location.facts()
    is_directory = stat.S_ISDIR(facts.st_mode)
    _check_kind(wanted, is_directory)
    if is_directory and disposition in _OVERWRITES:
        raise StatusError(NtStatus.FILE_IS_A_DIRECTORY)
    granted = _grant(call, share, wanted, location, is_directory)
    key = (facts.st_dev, facts.st_ino, "")
    overwrites = disposition in _OVERWRITES
    rights = granted | (access.WRITE_DATA if overwrites else 0)
    call.connection.service.caching.check_key(wanted.wish, key)
    if is_directory:
        _limit_to_folder(call, wanted)
    _admit(call, wanted, key, rights, overwrites)
    path = location.path
    handle: File | Directory
    if is_directory:
        to_list = bool(granted & (access.LIST_DIRECTORY | access.WRITING))
        handle = share.open_directory(location, to_list=to_list)
        return _join(call, wanted, handle, path, key, granted), CreateAction.OPENED
    if not overwrites:
        handle = share.open_file(location, access.open_flags(granted))
        return _join(call, wanted, handle, path, key, granted), CreateAction.OPENED
    _check_overwrite(wanted, location)
    handle = share.open_file(location, os.O_RDWR if granted & access.READING else os.O_WRONLY)
    return _overwrite(call, wanted, handle, path, key, granted)


def _overwrite(
    call: Call, wanted: _Wanted, handle: File, path: str, key: share_modes.Key, granted: int
) -> tuple[Open, CreateAction]:
    opened = _join(call, wanted, handle, path, key, granted)
    try:
        handle.truncate(0)
        handle.set_attributes(wanted.request.file_attributes | dos.ARCHIVE)
        if wanted.allocation:
            handle.allocate(wanted.allocation)
    except BaseException:
        opened.delete_on_close = False
        opened.close()
        raise
    return opened, _OVERWRITES[CreateDisposition(wanted.request.create_disposition)]


def _create(call: Call, share: Share, location: Location, wanted: _Wanted) -> Open:
    if wanted.request.create_disposition not in _MAKES:
        raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)
    granted = access.grant(wanted.desired, wanted.maximal)
    if not wanted.maximal & access.WRITE_DATA:
        raise StatusError(NtStatus.ACCESS_DENIED)
    attributes = wanted.request.file_attributes & dos.STORED & ~dos.SPARSE
    if attributes & dos.READONLY and wanted.delete_on_close:
        raise StatusError(NtStatus.CANNOT_DELETE)
    handle: File | Directory
    call.connection.service.caching.check_key(wanted.wish, None)
    if wanted.directory:
        _limit_to_folder(call, wanted)
    right = access.APPEND_DATA if wanted.directory else access.WRITE_DATA
    parent = file_security.check_folder(share, location.path, _user(call), right)
    if wanted.directory:
        handle = share.create_directory(location, attributes)
    else:
        handle = share.create_file(location, attributes | dos.ARCHIVE)
    try:
        if wanted.allocation and isinstance(handle, File):
            handle.allocate(wanted.allocation)
        _furnish(share, wanted.request, handle, parent)
    except BaseException:
        handle.close()
        raise
    opened = _join(call, wanted, handle, location.path, (*handle.identity, ""), granted)
    if opened.entry is not None:
        opened.entry.changed(opened.path)
    return opened


def _furnish(
    share: Share,
    request: CreateRequest,
    handle: File | Directory,
    parent: SecurityDescriptor | None,
) -> None:
    """What a new file has besides its attributes: a security descriptor, extended attributes."""
    security = find_context(request.create_contexts, contexts.SECURITY_DESCRIPTOR)
    descriptor = SecurityDescriptor.parse(security.data) if security is not None else None
    file_security.secure_new(share, handle, parent, descriptor)
    attributes = find_context(request.create_contexts, contexts.EA_BUFFER)
    if attributes is not None:
        write_extended_attributes(share, handle, attributes.data)


def _open_stream(
    call: Call, share: Share, location: Location, wanted: _Wanted
) -> tuple[Open, CreateAction]:
    """A stream of what is there; of a file that is made for it, where the disposition allows."""
    disposition = wanted.request.create_disposition
    if not location.exists:
        if disposition not in _MAKES:
            raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)
        if not wanted.maximal & access.WRITE_DATA:
            raise StatusError(NtStatus.ACCESS_DENIED)
        share.create_file(location, dos.ARCHIVE).close()
        location = share.look_up(wanted.name)
    with contextlib.closing(location):
        return _open_stream_of(call, share, location, wanted)


def _open_stream_of(
    call: Call, share: Share, location: Location, wanted: _Wanted
) -> tuple[Open, CreateAction]:
    disposition = wanted.request.create_disposition
    facts = location.facts()
    is_directory = stat.S_ISDIR(facts.st_mode)
    found = find_stream(f"/proc/self/fd/{location.fd}", wanted.name.stream)
    if found is not None and disposition == CreateDisposition.CREATE:
        raise StatusError(NtStatus.OBJECT_NAME_COLLISION)
    if found is None and disposition not in _MAKES:
        raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)
    granted = _grant(call, share, wanted, location, is_directory)
    changes = found is None or disposition in _OVERWRITES
    if changes and not wanted.maximal & access.WRITE_DATA:
        raise StatusError(NtStatus.ACCESS_DENIED)
    name = found or wanted.name.stream
    share_modes.check((facts.st_dev, facts.st_ino, ""), 0, 7)
    key = (facts.st_dev, facts.st_ino, fold(name))
    call.connection.service.caching.check_key(wanted.wish, key)
    _admit(call, wanted, key, granted, found is not None and disposition in _OVERWRITES)
    path, fd = location.path, os.dup(location.fd)
    stream = Stream(fd, name, is_directory=is_directory)
    try:
        if changes:
            stream.create()
    except BaseException:
        stream.close()
        raise
    opened = _join(call, wanted, stream, path, key, granted)
    if found is None:
        return opened, CreateAction.CREATED
    return opened, _OVERWRITES.get(CreateDisposition(disposition), CreateAction.OPENED)


def _check_kind(wanted: _Wanted, is_directory: bool) -> None:
    if wanted.directory and not is_directory:
        raise StatusError(NtStatus.NOT_A_DIRECTORY)
    if wanted.file and is_directory:
        raise StatusError(NtStatus.FILE_IS_A_DIRECTORY)


def _stored_attributes(location: Location) -> int:
    stored = read_dos_attributes(f"/proc/self/fd/{location.fd}")
    return stored.attributes if stored is not None else 0


def _grant(
    call: Call, share: Share, wanted: _Wanted, location: Location, is_directory: bool
) -> int:
    """What this open may do: what the share gives, less what the file's attributes and mode take away."""
    maximal = wanted.maximal
    attributes = _stored_attributes(location)
    if attributes & dos.READONLY and not is_directory:
        if wanted.delete_on_close:
            raise StatusError(NtStatus.CANNOT_DELETE)
        maximal &= ~access.WRITING
    if wanted.desired & access.MAXIMUM_ALLOWED:
        maximal &= _allowed_by_mode(location)
    maximal &= file_security.allowed(share, location.path, location.fd, _user(call))
    if wanted.request.create_disposition in _OVERWRITES and not maximal & access.WRITE_DATA:
        raise StatusError(NtStatus.ACCESS_DENIED)
    return access.grant(wanted.desired, maximal)


def _user(call: Call) -> User | None:
    return call.tree.user if call.tree is not None else None


def _allowed_by_mode(location: Location) -> int:
    target, allowed = f"/proc/self/fd/{location.fd}", access.ALL
    if not os.access(target, os.R_OK, effective_ids=True):
        allowed &= ~access.READING
    if not os.access(target, os.W_OK, effective_ids=True):
        allowed &= ~access.WRITING
    return allowed


def _check_overwrite(wanted: _Wanted, location: Location) -> None:
    """A hidden or system file is overwritten only by one that is so too ([MS-FSA] 2.1.5.1.2)."""
    attributes = _stored_attributes(location)
    if attributes & dos.READONLY or attributes & _NOT_INHERITABLE & ~wanted.request.file_attributes:
        raise StatusError(NtStatus.ACCESS_DENIED)
    if not wanted.maximal & access.WRITE_DATA:
        raise StatusError(NtStatus.ACCESS_DENIED)


def _admit(
    call: Call, wanted: _Wanted, key: share_modes.Key, rights: int, overwrites: bool
) -> None:
    """Whether the open goes together with the others of its file, and what it may cache then."""
    service, share_access = call.connection.service, wanted.request.share_access
    parked = service.durable_opens.make_way(
        Attempt(key, rights, wanted.wish, overwrites=overwrites),
        share_access,
        wanted.durability.app_instance_id,
        call.connection.client_guid,
    )
    violates = False
    try:
        share_modes.check(key, rights, share_access)
    except StatusError as error:
        if error.status != NtStatus.SHARING_VIOLATION:
            raise
        violates = True
    locked = locks.is_locked(key)
    attempt = Attempt(key, rights, wanted.wish, violates, overwrites, wanted.again, locked, parked)
    wanted.admitted = attempt, service.caching.admit(attempt)


# 4. the open


def _join(
    call: Call,
    wanted: _Wanted,
    handle: File | Directory | Stream,
    path: str,
    key: share_modes.Key,
    granted: int,
) -> Open:
    assert call.tree is not None
    try:
        file = share_modes.enter(key, path, granted, wanted.request.share_access)
    except StatusError:  # another worker was faster
        handle.close()
        raise
    opened = Open(
        tree=call.tree,
        handle=handle,
        file=file,
        granted_access=granted,
        share_access=wanted.request.share_access,
        create_options=wanted.request.create_options,
        delete_on_close=wanted.delete_on_close,
        write_through=bool(wanted.request.create_options & _WRITE_THROUGH),
        channel_sequence=wanted.sequence,
    )
    caching = call.connection.service.caching
    if not opened.is_directory or wanted.wish.lease is not None:
        attempt = wanted.admitted or (Attempt(key, granted, wanted.wish), wanted.wish.state)
        caching.hold(opened, *attempt)
    if path and call.tree.vfs is not None and caching.in_use:
        opened.entry = FolderEntry(caching, call.tree.vfs, handle, wanted.wish)
    return opened
