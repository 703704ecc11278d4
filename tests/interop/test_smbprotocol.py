"""smbprotocol, a client in Python, against the real server: the second foreign client."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smbserver.own_server import OwnServer

smbprotocol = pytest.importorskip("smbprotocol", reason="smbprotocol is not installed")

from smbprotocol.connection import Connection, Dialects  # noqa: E402
from smbprotocol.exceptions import (  # noqa: E402
    AccessDenied,
    EndOfFile,
    NoMoreFiles,
    ObjectNameCollision,
    ObjectNameNotFound,
    ObjectPathSyntaxBad,
    SharingViolation,
)
from smbprotocol.file_info import (  # noqa: E402
    FileAllInformation,
    FileAttributes,
    FileBasicInformation,
    FileDispositionInformation,
    FileEndOfFileInformation,
    FileInformationClass,
    FileRenameInformation,
)
from smbprotocol.open import (  # noqa: E402
    CreateDisposition,
    CreateOptions,
    DirectoryAccessMask,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    ShareAccess,
    SMB2QueryInfoRequest,
    SMB2SetInfoRequest,
)
from smbprotocol.session import Session  # noqa: E402
from smbprotocol.tree import TreeConnect  # noqa: E402

from tests.interop.conftest import FOREIGN_SECONDS, MIB, digest  # noqa: E402

pytestmark = pytest.mark.interop

SECURITY = [
    (Dialects.SMB_2_0_2, False),
    (Dialects.SMB_2_1_0, False),
    (Dialects.SMB_3_0_0, False),
    (Dialects.SMB_3_0_0, True),
    (Dialects.SMB_3_0_2, False),
    (Dialects.SMB_3_1_1, False),
    (Dialects.SMB_3_1_1, True),
]
NAMES = ("with spaces.txt", "Größe äöüß.txt", "Umläut 😀🎉.txt")

Connect = Callable[..., TreeConnect]


@pytest.fixture
def connect(server: OwnServer) -> Iterator[Connect]:
    """Connects to the share; every request signed, or every one encrypted."""
    connections: list[Connection] = []

    def to_share(dialect: int = Dialects.SMB_3_1_1, encrypt: bool = False) -> TreeConnect:
        connection = Connection(uuid.uuid4(), "127.0.0.1", server.port, require_signing=True)
        connections.append(connection)
        connection.connect(dialect)
        session = Session(connection, server.user, server.password, require_encryption=encrypt)
        session.connect()
        tree = TreeConnect(session, rf"\\127.0.0.1\{server.share}")
        tree.connect()
        return tree

    yield to_share
    for connection in connections:
        connection.disconnect(close=True)


def opened(
    tree: TreeConnect,
    name: str,
    access: int = FilePipePrinterAccessMask.MAXIMUM_ALLOWED,
    disposition: int = CreateDisposition.FILE_OPEN,
    options: int = 0,
    share: int = ShareAccess.FILE_SHARE_READ,
) -> Open:
    one = Open(tree, name)
    one.create(
        ImpersonationLevel.Impersonation,
        access,
        FileAttributes.FILE_ATTRIBUTE_NORMAL,
        share,
        disposition,
        options,
    )
    return one


def change(one: Open, information: object) -> None:
    request = SMB2SetInfoRequest()
    request["info_type"] = 1
    request["file_info_class"] = information.INFO_CLASS  # type: ignore[attr-defined]
    request["file_id"] = one.file_id
    request["buffer"] = information
    session, tree = one.connection.session_table, one.tree_connect
    sent = one.connection.send(request, next(iter(session)), tree.tree_connect_id)
    one.connection.receive(sent)


def rename(one: Open, name: str, replace: bool = False) -> None:
    information = FileRenameInformation()
    information["replace_if_exists"] = replace
    information["file_name"] = name
    change(one, information)


def delete(one: Open) -> None:
    information = FileDispositionInformation()
    information["delete_pending"] = True
    change(one, information)
    one.close()


@pytest.mark.timeout(3 * FOREIGN_SECONDS)
@pytest.mark.parametrize(("dialect", "encrypt"), SECURITY)
def test_a_session(
    connect: Connect, server: OwnServer, content: Path, dialect: int, encrypt: bool
) -> None:
    tree = connect(dialect, encrypt)
    step = min(tree.session.connection.max_write_size, tree.session.connection.max_read_size, MIB)
    folder = opened(
        tree,
        "folder",
        DirectoryAccessMask.MAXIMUM_ALLOWED,
        CreateDisposition.FILE_CREATE,
        CreateOptions.FILE_DIRECTORY_FILE,
    )
    one = opened(tree, "folder\\file", disposition=CreateDisposition.FILE_CREATE)
    size = content.stat().st_size
    with content.open("rb") as file:
        for offset in range(0, size, step):
            assert one.write(file.read(step), offset) == step
    one.flush()
    back = hashlib.blake2b()
    for offset in range(0, size, step):
        back.update(one.read(offset, step))
    assert back.hexdigest() == digest(content)
    assert digest(server.path / "folder" / "file") == digest(content)
    entries = folder.query_directory("*", FileInformationClass.FILE_ID_BOTH_DIRECTORY_INFORMATION)
    names = [entry["file_name"].get_value().decode("utf-16-le") for entry in entries]
    assert names == [".", "..", "file"]
    with pytest.raises(NoMoreFiles):
        folder.query_directory("*", FileInformationClass.FILE_ID_BOTH_DIRECTORY_INFORMATION)
    rename(one, "moved")
    assert sorted(os.listdir(server.path)) == ["folder", "moved"]
    delete(one)
    delete(folder)
    assert os.listdir(server.path) == []


@pytest.mark.parametrize("name", NAMES)
def test_names(connect: Connect, server: OwnServer, name: str) -> None:
    tree = connect()
    one = opened(tree, name, disposition=CreateDisposition.FILE_CREATE)
    one.write(name.encode(), 0)
    one.close()
    assert (server.path / name).read_text() == name
    root = opened(tree, "", DirectoryAccessMask.FILE_LIST_DIRECTORY)
    entries = root.query_directory(name, FileInformationClass.FILE_NAMES_INFORMATION)
    assert entries[0]["file_name"].get_value().decode("utf-16-le") == name
    root.close()
    delete(opened(tree, name.replace(".txt", ".TXT")))
    assert os.listdir(server.path) == []


def test_what_is_told_and_changed(connect: Connect, server: OwnServer) -> None:
    one = opened(connect(), "file", disposition=CreateDisposition.FILE_CREATE)
    one.write(b"12345", 0)
    size = FileEndOfFileInformation()
    size["end_of_file"] = 3
    change(one, size)
    attributes = FileBasicInformation()
    attributes["file_attributes"] = FileAttributes.FILE_ATTRIBUTE_HIDDEN
    change(one, attributes)
    request = SMB2QueryInfoRequest()
    request["info_type"] = 1
    request["file_info_class"] = FileInformationClass.FILE_ALL_INFORMATION
    request["output_buffer_length"] = 4096
    request["file_id"] = one.file_id
    session_id = next(iter(one.connection.session_table))
    sent = one.connection.send(request, session_id, one.tree_connect.tree_connect_id)
    information = FileAllInformation()
    from smbprotocol.open import SMB2QueryInfoResponse

    response = SMB2QueryInfoResponse()
    response.unpack(one.connection.receive(sent)["data"].get_value())
    information.unpack(response["buffer"].get_value())
    assert information["standard_information"]["end_of_file"].get_value() == 3
    attributes_now = information["basic_information"]["file_attributes"].get_value()
    assert attributes_now == FileAttributes.FILE_ATTRIBUTE_HIDDEN
    assert (server.path / "file").read_bytes() == b"123"
    delete(one)


def test_refusals(connect: Connect, server: OwnServer, tmp_path: Path) -> None:
    tree = connect()
    (server.path / "out").symlink_to(tmp_path)
    with pytest.raises(ObjectNameNotFound):
        opened(tree, "missing")
    with pytest.raises(ObjectPathSyntaxBad):
        opened(tree, "..\\x", disposition=CreateDisposition.FILE_CREATE)
    with pytest.raises(AccessDenied):
        opened(tree, "out\\x", disposition=CreateDisposition.FILE_CREATE)
    one = opened(tree, "file", disposition=CreateDisposition.FILE_CREATE, share=0)
    with pytest.raises(ObjectNameCollision):
        opened(tree, "FILE", disposition=CreateDisposition.FILE_CREATE)
    with pytest.raises(SharingViolation):
        opened(tree, "file", FilePipePrinterAccessMask.GENERIC_READ)
    with pytest.raises(EndOfFile):
        one.read(0, 1)
    delete(one)
    (server.path / "out").unlink()
    assert os.listdir(tmp_path) == []
