"""What CREATE answers ([MS-SMB2] 3.3.5.9, 2.2.14): attributes, and the create contexts that were asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smbserver import access, file_security
from smbserver.dispatch import Reply
from smbserver.wire import create_contexts as contexts
from smbserver.wire.create import CreateRequest, CreateResponse, OplockLevel
from smbserver.wire.create_contexts import CreateContext, DurableHandleFlags
from smbserver.wire.file_id import FileId
from smbserver.wire.status import NtStatus

if TYPE_CHECKING:
    from smbserver.lease import Holding
    from smbserver.open import Open
    from smbserver.vfs.metadata import Metadata
    from smbserver.vfs.share import Share

_NEED_HANDLE_CACHING = (OplockLevel.BATCH, OplockLevel.LEASE)


def answer(
    opened: Open,
    request: CreateRequest,
    holding: Holding | None = None,
    *,
    is_replay: bool = False,
) -> Reply:
    """Of an open that is new, taken up again, or told once more. Raises OSError if the file says nothing."""
    facts = opened.metadata()
    found: list[CreateContext] = []
    if opened.tree.vfs is not None:
        found = _answers(opened, request, opened.tree.vfs, facts)
    if holding is not None and holding.is_lease:
        found += _lease(request, holding)
    if not is_replay or request.requested_oplock_level in _NEED_HANDLE_CACHING:
        found += _durability(opened, request)
    # A replay is answered as if its request had been granted (what Windows does).
    level = request.requested_oplock_level if is_replay else holding.level if holding else 0
    return Reply(
        CreateResponse(
            FileId(opened.persistent_id, opened.volatile_id),
            opened.create_action,
            level,
            creation_time=facts.creation_time,
            last_access_time=facts.last_access_time,
            last_write_time=facts.last_write_time,
            change_time=facts.change_time,
            allocation_size=facts.allocation,
            end_of_file=facts.size,
            file_attributes=facts.attributes,
            create_contexts=tuple(found),
        ).pack()
    )


def _answers(
    opened: Open, request: CreateRequest, share: Share, facts: Metadata
) -> list[CreateContext]:
    answers: list[CreateContext] = []
    for context in request.create_contexts:
        if context.name == contexts.QUERY_MAXIMAL_ACCESS:
            body = contexts.QueryMaximalAccessResponse(
                NtStatus.SUCCESS, _maximal_access(share, opened)
            )
            answers.append(CreateContext(context.name, body.pack()))
        elif context.name == contexts.QUERY_ON_DISK_ID:
            volume = os.fstat(share.root).st_dev
            on_disk = contexts.QueryOnDiskIdResponse(facts.inode, volume)
            answers.append(CreateContext(context.name, on_disk.pack()))
    return answers


def _maximal_access(share: Share, opened: Open) -> int:
    maximal = opened.tree.maximal_access
    user = opened.tree.user
    maximal &= file_security.allowed(share, opened.path, opened.handle.fd, user)
    if not opened.handle.can(os.R_OK):
        maximal &= ~access.READING
    if not opened.handle.can(os.W_OK):
        maximal &= ~access.WRITING
    return maximal


def _lease(request: CreateRequest, holding: Holding) -> list[CreateContext]:
    name = contexts.REQUEST_LEASE
    asked = any(context.name == name for context in request.create_contexts)
    return [CreateContext(name, holding.response().pack())] if asked else []


def _durability(opened: Open, request: CreateRequest) -> list[CreateContext]:
    """Only a request is answered so, never a reconnect."""
    granted = opened.durability
    asked = {context.name for context in request.create_contexts}
    if granted is None or contexts.DURABLE_HANDLE_RECONNECT in asked:
        return []
    if contexts.DURABLE_HANDLE_REQUEST_V2 in asked:
        flags = DurableHandleFlags.PERSISTENT if granted.is_persistent else 0
        body = contexts.DurableHandleResponseV2(round(granted.timeout * 1000), flags).pack()
        return [CreateContext(contexts.DURABLE_HANDLE_REQUEST_V2, body)]
    if contexts.DURABLE_HANDLE_REQUEST in asked:
        body = contexts.DurableHandleResponse().pack()
        return [CreateContext(contexts.DURABLE_HANDLE_REQUEST, body)]
    return []
