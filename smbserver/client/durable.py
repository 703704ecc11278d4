"""Handles that outlive their session ([MS-SMB2] 3.2.4.3.5, 3.2.4.4): opened, asked for once more, taken up again.

file = await create_durable(tree, "name", persistent=True)
...                                        the connection, or the server, is lost
session = await renew(session, connection)
file = await file.reconnect(await session.tree("share"))
"""

from __future__ import annotations

import uuid
from typing import Any

from smbserver.client.connection import Connection
from smbserver.client.open import Open
from smbserver.client.session import Session
from smbserver.client.tree import Tree
from smbserver.wire import create_contexts as contexts
from smbserver.wire.create import CreateResponse, OplockLevel
from smbserver.wire.create_contexts import (
    CreateContext,
    DurableHandleFlags,
    DurableHandleReconnectV2,
    DurableHandleRequestV2,
    DurableHandleResponseV2,
    find_context,
)


class DurableOpen(Open):
    """A handle with what is needed to take it up again."""

    def __init__(
        self, tree: Tree, name: str, created: CreateResponse, create_guid: bytes, flags: int
    ) -> None:
        super().__init__(tree, name, created)
        self.create_guid = create_guid
        self._flags = flags

    @property
    def granted(self) -> DurableHandleResponseV2 | None:
        """What the server has promised; None: nothing."""
        found = find_context(self.created.create_contexts, contexts.DURABLE_HANDLE_REQUEST_V2)
        return None if found is None else DurableHandleResponseV2.parse(found.data)

    async def reconnect(self, tree: Tree) -> DurableOpen:
        """The same open in a new session. StatusError with OBJECT_NAME_NOT_FOUND: it is no more."""
        again = DurableHandleReconnectV2(self.file_id, self.create_guid, self._flags)
        context = CreateContext(contexts.DURABLE_HANDLE_RECONNECT_V2, again.pack())
        opened = await tree.create(self.name, oplock=OplockLevel.BATCH, contexts=(context,))
        return DurableOpen(tree, self.name, opened.created, self.create_guid, self._flags)


async def create_durable(
    tree: Tree,
    name: str,
    *,
    persistent: bool = False,
    milliseconds: int = 0,
    create_guid: bytes | None = None,
    replay: bool = False,
    oplock: int = OplockLevel.BATCH,
    extra: tuple[CreateContext, ...] = (),
    **wanted: Any,
) -> DurableOpen:
    """Asks for a handle that waits so many milliseconds for its client; 0: as many as the server likes.

    With `replay` and the CreateGuid of an earlier one, for what that has opened.
    """
    guid = create_guid or uuid.uuid4().bytes
    flags = int(DurableHandleFlags.PERSISTENT) if persistent else 0
    asked = DurableHandleRequestV2(milliseconds, flags, guid)
    context = CreateContext(contexts.DURABLE_HANDLE_REQUEST_V2, asked.pack())
    opened = await tree.create(
        name, oplock=oplock, contexts=(context, *extra), replay=replay, **wanted
    )
    return DurableOpen(tree, name, opened.created, guid, flags)


async def renew(lost: Session, connection: Connection) -> Session:
    """A session in the place of one that has no channel any more ([MS-SMB2] 3.2.7.1)."""
    session = Session(connection, lost.credentials)
    await session.set_up(connection, previous_session_id=lost.id)
    # Of the next one, so that the server can tell what is late.
    session.channel_sequence = (lost.channel_sequence + 1) & 0xFFFF
    return session
