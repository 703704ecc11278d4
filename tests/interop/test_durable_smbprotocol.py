"""smbprotocol asks for a durable handle, loses its connection, and takes the handle up again."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from smbserver.own_server import OwnServer

smbprotocol = pytest.importorskip("smbprotocol", reason="smbprotocol is not installed")

from smbprotocol.connection import Connection  # noqa: E402
from smbprotocol.create_contexts import (  # noqa: E402
    CreateContextName,
    SMB2CreateContextRequest,
    SMB2CreateDurableHandleReconnectV2,
    SMB2CreateDurableHandleRequestV2,
    SMB2CreateDurableHandleResponseV2,
)
from smbprotocol.exceptions import ObjectNameNotFound  # noqa: E402
from smbprotocol.file_info import FileAttributes  # noqa: E402
from smbprotocol.open import (  # noqa: E402
    CreateDisposition,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    RequestedOplockLevel,
)
from smbprotocol.session import Session  # noqa: E402
from smbprotocol.tree import TreeConnect  # noqa: E402

pytestmark = pytest.mark.interop


def tree_of(server: OwnServer) -> TreeConnect:
    connection = Connection(uuid.uuid4(), "127.0.0.1", server.port, require_signing=True)
    connection.connect()
    session = Session(connection, server.user, server.password, require_encryption=False)
    session.connect()
    tree = TreeConnect(session, rf"\\127.0.0.1\{server.share}")
    tree.connect()
    return tree


def lose(tree: TreeConnect) -> None:
    """The connection ends; nobody logs off."""
    tree.session.connection.disconnect(close=False)


def create(tree: TreeConnect, name: str, context: Any) -> tuple[Open, Any]:
    packed = SMB2CreateContextRequest()
    packed["buffer_name"] = context.NAME
    packed["buffer_data"] = context
    one = Open(tree, name)
    answers = one.create(
        ImpersonationLevel.Impersonation,
        FilePipePrinterAccessMask.GENERIC_READ | FilePipePrinterAccessMask.GENERIC_WRITE,
        FileAttributes.FILE_ATTRIBUTE_NORMAL,
        0,
        CreateDisposition.FILE_OPEN_IF,
        0,
        [packed],
        RequestedOplockLevel.SMB2_OPLOCK_LEVEL_BATCH,
    )
    return one, answers


def again(file_id: bytes, create_guid: uuid.UUID) -> SMB2CreateDurableHandleReconnectV2:
    context = SMB2CreateDurableHandleReconnectV2()
    context["file_id"] = file_id
    context["create_guid"] = create_guid
    return context


def test_a_durable_handle(server: OwnServer) -> None:
    guid = uuid.uuid4()
    asked = SMB2CreateDurableHandleRequestV2()
    asked["timeout"] = 12000
    asked["create_guid"] = guid
    tree = tree_of(server)
    one, answers = create(tree, "durable", asked)
    assert asked.NAME == CreateContextName.SMB2_CREATE_DURABLE_HANDLE_REQUEST_V2
    (granted,) = answers
    assert isinstance(granted, SMB2CreateDurableHandleResponseV2)
    assert granted["timeout"].get_value() == 12000
    one.write(b"before", 0)
    lose(tree)
    tree = tree_of(server)
    with pytest.raises(ObjectNameNotFound):
        create(tree, "durable", again(one.file_id, uuid.uuid4()))
    one, _ = create(tree, "durable", again(one.file_id, guid))
    one.write(b"after", 6)
    assert one.read(0, 11) == b"beforeafter"
    one.close()
    with pytest.raises(ObjectNameNotFound):
        create(tree, "durable", again(one.file_id, guid))
    tree.session.connection.disconnect()
