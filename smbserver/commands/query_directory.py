"""QUERY_DIRECTORY ([MS-SMB2] 3.3.5.18, [MS-FSA] 2.1.5.6.3).

An enumeration shows the names that were there when it began. Facts of each entry are taken when it is sent; what has
gone by then is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smbserver import access, file_security
from smbserver.acting import as_user
from smbserver.dispatch import Reply
from smbserver.open import Listing, Open
from smbserver.vfs.directory import Directory
from smbserver.vfs.errors import status_of
from smbserver.vfs.metadata import Metadata
from smbserver.vfs.share import Share
from smbserver.vfs.short_names import short_name, shown_name
from smbserver.vfs.wildcard import Expression, has_wildcard
from smbserver.wire.directory_information import (
    CLASSES,
    DirectoryBuffer,
    DirectoryEntry,
    minimum_size,
)
from smbserver.wire.file_information import FileInformationClass
from smbserver.wire.query_directory import (
    QueryDirectoryFlags,
    QueryDirectoryRequest,
    QueryDirectoryResponse,
)
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.dispatch import Call

_ANEW = int(QueryDirectoryFlags.RESTART_SCANS | QueryDirectoryFlags.REOPEN)
_SINGLE = int(QueryDirectoryFlags.RETURN_SINGLE_ENTRY)
_INDEX = int(QueryDirectoryFlags.INDEX_SPECIFIED)

_WITH_SHORT_NAME = (
    FileInformationClass.FILE_BOTH_DIRECTORY,
    FileInformationClass.FILE_ID_BOTH_DIRECTORY,
)


@as_user
def serve(call: Call) -> Reply:
    """Answers with as many entries as fit."""
    request = QueryDirectoryRequest.parse(call.message)
    opened, directory = _check(call, request)
    assert call.tree is not None
    assert call.tree.vfs is not None
    share = call.tree.vfs
    try:
        begins = opened.listing is None or bool(request.flags & _ANEW)
        listing = _begin(share, opened, directory, request) if begins else opened.listing
        assert listing is not None
        if request.flags & _INDEX:
            listing.next = request.file_index
        buffer = _fill(share, opened, directory, listing, request)
    except OSError as error:
        raise StatusError(status_of(error)) from error
    if not buffer.count:
        raise StatusError(NtStatus.NO_SUCH_FILE if begins else NtStatus.NO_MORE_FILES)
    return Reply(QueryDirectoryResponse(buffer.pack()).pack())


def _check(call: Call, request: QueryDirectoryRequest) -> tuple[Open, Directory]:
    opened = call.open
    assert opened is not None  # the opcode table asks for it
    if request.file_information_class not in CLASSES:
        raise StatusError(NtStatus.INVALID_INFO_CLASS)
    if not isinstance(opened.handle, Directory):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if request.output_buffer_length > call.connection.max_transact_size:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not opened.granted_access & access.LIST_DIRECTORY:
        raise StatusError(NtStatus.ACCESS_DENIED)
    if request.output_buffer_length < minimum_size(request.file_information_class):
        raise StatusError(NtStatus.INFO_LENGTH_MISMATCH)
    return opened, opened.handle


def _begin(
    share: Share, opened: Open, directory: Directory, request: QueryDirectoryRequest
) -> Listing:
    """A new enumeration; without a pattern it keeps the one of before."""
    pattern = request.file_name or (opened.listing.pattern if opened.listing else "*")
    if has_wildcard(pattern):
        expression = Expression(pattern)
        names = [name for name in directory.names() if expression.matches(shown_name(name))]
        names = [name for name in names if name in (".", "..") or share.is_visible(name)]
        if share.parameters.hide_unreadable:
            names = [name for name in names if _is_readable(share, directory, name, opened)]
    else:
        found = share.spelling(directory, pattern)
        names = [found] if found is not None else []
    opened.listing = Listing(pattern, names)
    return opened.listing


def _is_readable(share: Share, directory: Directory, name: str, opened: Open) -> bool:
    user = opened.tree.session.user
    return name in (".", "..") or file_security.is_readable(share, directory.fd, name, user)


def _fill(
    share: Share,
    opened: Open,
    directory: Directory,
    listing: Listing,
    request: QueryDirectoryRequest,
) -> DirectoryBuffer:
    limit = request.output_buffer_length
    buffer = DirectoryBuffer(request.file_information_class, limit)
    with_short = request.file_information_class in _WITH_SHORT_NAME
    while listing.next < len(listing.names):
        name = listing.names[listing.next]
        facts = share.entry(directory, opened.path, name)
        short = short_name(name) if with_short and facts is not None else ""
        entry = _entry(shown_name(name), facts, listing.next + 1, short) if facts else None
        if entry is not None and not buffer.add(entry):
            if not buffer.count:
                raise StatusError(NtStatus.INFO_LENGTH_MISMATCH)
            break
        listing.next += 1
        if request.flags & _SINGLE and buffer.count:
            break
    return buffer


def _entry(name: str, facts: Metadata, index: int, short: str) -> DirectoryEntry:
    return DirectoryEntry(
        name,
        facts.creation_time,
        facts.last_access_time,
        facts.last_write_time,
        facts.change_time,
        facts.size,
        facts.allocation,
        facts.attributes,
        file_id=facts.inode,
        file_index=index,
        short_name=short if short != name else "",
    )
