from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver import access
from smbserver.commands import close, create
from smbserver.vfs import dos_attributes as dos
from smbserver.wire import create_contexts as contexts
from smbserver.wire.close import CloseFlags, CloseRequest, CloseResponse
from smbserver.wire.create import CreateAction, CreateDisposition, CreateOptions, CreateRequest
from smbserver.wire.create_contexts import CreateContext, find_context
from smbserver.wire.errors import Malformed
from smbserver.wire.status import NtStatus, StatusError
from tests.effort import tries

from .conftest import Server

D = CreateDisposition
O = CreateOptions  # noqa: E741


@pytest.mark.parametrize(
    ("disposition", "exists", "outcome"),
    [
        (D.SUPERSEDE, False, CreateAction.CREATED),
        (D.SUPERSEDE, True, CreateAction.SUPERSEDED),
        (D.OPEN, False, NtStatus.OBJECT_NAME_NOT_FOUND),
        (D.OPEN, True, CreateAction.OPENED),
        (D.CREATE, False, CreateAction.CREATED),
        (D.CREATE, True, NtStatus.OBJECT_NAME_COLLISION),
        (D.OPEN_IF, False, CreateAction.CREATED),
        (D.OPEN_IF, True, CreateAction.OPENED),
        (D.OVERWRITE, False, NtStatus.OBJECT_NAME_NOT_FOUND),
        (D.OVERWRITE, True, CreateAction.OVERWRITTEN),
        (D.OVERWRITE_IF, False, CreateAction.CREATED),
        (D.OVERWRITE_IF, True, CreateAction.OVERWRITTEN),
    ],
)
@pytest.mark.parametrize("stream", ["", ":zone"])
def test_dispositions(
    server: Server, disposition: int, exists: bool, outcome: int, stream: str
) -> None:
    if exists:
        server.close(server.open("file" + stream, create_disposition=D.CREATE))
        if not stream:
            (server.path / "file").write_text("old")
    if isinstance(outcome, NtStatus):
        server.refuses_create(outcome, "file" + stream, create_disposition=disposition)
        return
    response = server.create("FILE" + stream, create_disposition=disposition)
    assert response.create_action == outcome
    kept = outcome == CreateAction.OPENED and not stream
    assert response.end_of_file == (3 if kept else 0)
    if outcome == CreateAction.CREATED:
        assert response.file_attributes & dos.ARCHIVE
        assert response.creation_time > 0


def test_directories(server: Server) -> None:
    response = server.create("folder", create_disposition=D.CREATE, create_options=O.DIRECTORY_FILE)
    assert response.file_attributes == dos.DIRECTORY
    server.close(response.file_id)
    (server.path / "file").touch()
    for name in ("file", "folder::$DATA", "new:stream"):
        server.refuses_create(NtStatus.NOT_A_DIRECTORY, name, create_options=O.DIRECTORY_FILE)
    server.refuses_create(NtStatus.FILE_IS_A_DIRECTORY, "folder::$DATA")
    assert sorted(os.listdir(server.path)) == ["file", "folder"]
    server.refuses_create(
        NtStatus.FILE_IS_A_DIRECTORY, "folder", create_options=O.NON_DIRECTORY_FILE
    )
    server.refuses_create(NtStatus.FILE_IS_A_DIRECTORY, "folder", create_disposition=D.OVERWRITE_IF)
    server.refuses_create(
        NtStatus.INVALID_PARAMETER, "x", create_options=O.DIRECTORY_FILE | O.NON_DIRECTORY_FILE
    )
    server.refuses_create(
        NtStatus.OBJECT_PATH_NOT_FOUND, "nothing\\file", create_disposition=D.CREATE
    )
    server.refuses_create(NtStatus.OBJECT_PATH_NOT_FOUND, "file\\file", create_disposition=D.CREATE)
    assert server.create("").file_attributes & dos.DIRECTORY


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "..\\outside\\secret",
        "folder\\..\\..\\outside\\secret",
        "/etc/passwd",
        "\\etc\\passwd",
        "../outside/secret",
        "out",
        "OUT",
        "absolute",
        "outdir\\secret",
        "nul\0",
        "out:stream",
        "outdir\\secret:stream",
        "..:stream",
        ":..\\stream",
        "folder::$INDEX_ALLOCATION\\..\\..\\outside\\secret",
    ],
)
@pytest.mark.parametrize("disposition", list(D))
def test_nothing_leads_out(server: Server, name: str, disposition: D) -> None:
    (server.path / "folder").mkdir()
    (server.path / "out").symlink_to("../outside/secret")
    (server.path / "absolute").symlink_to(server.outside / "secret")
    (server.path / "outdir").symlink_to("../outside")
    with pytest.raises(StatusError):
        server.create(name, create_disposition=disposition)
    assert sorted(os.listdir(server.outside)) == ["secret"]
    assert (server.outside / "secret").read_text() == "secret"
    assert os.listxattr(server.outside / "secret") == []


def test_a_read_only_share(server: Server) -> None:
    (server.path / "file").touch()
    server.tree.maximal_access = 0x001200A9
    read = access.READ_DATA
    assert server.create("file", access.GENERIC_READ)
    granted = server.session.opens[server.open("file", access.MAXIMUM_ALLOWED).volatile]
    assert granted.granted_access == 0x001200A9
    server.refuses_create(NtStatus.ACCESS_DENIED, "file", access.WRITE_DATA)
    server.refuses_create(NtStatus.ACCESS_DENIED, "file", access.GENERIC_ALL)
    server.refuses_create(NtStatus.ACCESS_DENIED, "file", read, create_disposition=D.OVERWRITE)
    server.refuses_create(NtStatus.ACCESS_DENIED, "new", read, create_disposition=D.CREATE)
    server.refuses_create(NtStatus.ACCESS_DENIED, "new:s", read, create_disposition=D.CREATE)
    server.refuses_create(NtStatus.ACCESS_DENIED, "file:s", read, create_disposition=D.CREATE)
    server.refuses_create(
        NtStatus.ACCESS_DENIED, "file", access.DELETE, create_options=O.DELETE_ON_CLOSE
    )
    assert os.listdir(server.path) == ["file"]


def test_a_read_only_file(server: Server) -> None:
    server.close(server.open("file", create_disposition=D.CREATE, file_attributes=dos.READONLY))
    server.refuses_create(NtStatus.ACCESS_DENIED, "file", access.WRITE_DATA)
    server.refuses_create(
        NtStatus.ACCESS_DENIED, "file", access.READ_DATA, create_disposition=D.OVERWRITE
    )
    server.refuses_create(
        NtStatus.CANNOT_DELETE, "file", access.DELETE, create_options=O.DELETE_ON_CLOSE
    )
    assert server.create("file", access.READ_DATA | access.WRITE_ATTRIBUTES)


def test_rights(server: Server) -> None:
    (server.path / "file").touch()
    server.refuses_create(NtStatus.ACCESS_DENIED, "file", 0)
    server.refuses_create(NtStatus.ACCESS_DENIED, "file", 0x00000200)
    server.refuses_create(NtStatus.ACCESS_DENIED, "file", access.ACCESS_SYSTEM_SECURITY)
    server.refuses_create(
        NtStatus.INVALID_PARAMETER, "file", access.READ_DATA, create_options=O.DELETE_ON_CLOSE
    )


@pytest.mark.parametrize(
    ("first", "first_shares", "second", "second_shares", "fits"),
    [
        (access.READ_DATA, 7, access.WRITE_DATA, 7, True),
        (access.READ_DATA, 1, access.READ_DATA, 1, True),
        (access.READ_DATA, 1, access.WRITE_DATA, 7, False),
        (access.WRITE_DATA, 7, access.READ_DATA, 1, False),
        (access.READ_DATA, 3, access.DELETE, 7, False),
        (access.READ_DATA, 0, access.READ_ATTRIBUTES, 0, True),
        (access.READ_ATTRIBUTES, 0, access.WRITE_DATA, 0, True),
        (access.EXECUTE, 7, access.READ_DATA, 6, False),
    ],
)
def test_share_modes(
    server: Server, first: int, first_shares: int, second: int, second_shares: int, fits: bool
) -> None:
    (server.path / "file").touch()
    os.link(server.path / "file", server.path / "other name")
    one = server.open("file", first, share_access=first_shares)
    if fits:
        server.open("other name", second, share_access=second_shares)
    else:
        server.refuses_create(
            NtStatus.SHARING_VIOLATION, "other name", second, share_access=second_shares
        )
    server.close(one)
    server.open("file", access.ALL, share_access=7) if not fits else None


def test_delete_on_close_waits_for_the_last_open(server: Server) -> None:
    (server.path / "file").touch()
    one = server.open("file", access.READ_DATA)
    two = server.open("file", access.DELETE, create_options=O.DELETE_ON_CLOSE)
    server.close(two)
    assert (server.path / "file").exists()
    server.refuses_create(NtStatus.DELETE_PENDING, "file", access.READ_ATTRIBUTES)
    server.close(one)
    assert not (server.path / "file").exists()


def test_delete_on_close_of_a_directory_and_of_a_stream(server: Server) -> None:
    options = O.DELETE_ON_CLOSE
    server.close(server.open("file:zone", create_disposition=D.CREATE, create_options=options))
    assert (server.path / "file").exists()
    server.refuses_create(NtStatus.OBJECT_NAME_NOT_FOUND, "file:zone")
    (server.path / "full").mkdir()
    (server.path / "full" / "file").touch()
    (server.path / "empty").mkdir()
    for name in ("full", "empty"):
        server.close(server.open(name, create_options=options | O.DIRECTORY_FILE))
    assert sorted(os.listdir(server.path)) == ["file", "full"]


def test_close_tells_the_attributes_if_asked(server: Server) -> None:
    (server.path / "file").write_text("12345")
    file_id = server.open("file")
    reply = server.request(close, CloseRequest(file_id, CloseFlags.POSTQUERY_ATTRIB))
    response = CloseResponse.parse(bytes(64) + reply.body)
    assert (response.flags, response.end_of_file) == (1, 5)
    assert file_id.volatile not in server.session.opens
    reply = server.request(close, CloseRequest(server.open("file")))
    assert CloseResponse.parse(bytes(64) + reply.body) == CloseResponse()


def test_contexts(server: Server) -> None:
    asked = (
        CreateContext(contexts.QUERY_MAXIMAL_ACCESS),
        CreateContext(contexts.QUERY_ON_DISK_ID),
        CreateContext(contexts.ALLOCATION_SIZE, contexts.AllocationSize(1 << 20).pack()),
        CreateContext(contexts.REQUEST_LEASE, contexts.Lease(bytes(16), 7).pack()),
        CreateContext(contexts.DURABLE_HANDLE_REQUEST, bytes(16)),
        CreateContext(b"Else", b"whatever"),
    )
    response = server.create(
        "file", create_disposition=D.CREATE, create_contexts=asked, requested_oplock_level=0xFF
    )
    names = [context.name for context in response.create_contexts]
    assert names == [contexts.QUERY_MAXIMAL_ACCESS, contexts.QUERY_ON_DISK_ID]
    answer = find_context(response.create_contexts, contexts.QUERY_ON_DISK_ID)
    assert answer is not None
    on_disk = contexts.QueryOnDiskIdResponse.parse(answer.data)
    assert on_disk.disk_file_id == os.stat(server.path / "file").st_ino
    assert response.oplock_level == 0
    assert response.allocation_size >= 1 << 20
    assert response.end_of_file == 0


@pytest.mark.parametrize(
    ("context", "status"),
    [
        (CreateContext(contexts.TIMEWARP_TOKEN, bytes(8)), NtStatus.OBJECT_NAME_NOT_FOUND),
        (CreateContext(b"xxx"), NtStatus.INVALID_PARAMETER),
        (
            CreateContext(contexts.DURABLE_HANDLE_RECONNECT, bytes(16)),
            NtStatus.OBJECT_NAME_NOT_FOUND,
        ),
    ],
)
def test_contexts_that_cannot_be_had(
    server: Server, context: CreateContext, status: NtStatus
) -> None:
    (server.path / "file").touch()
    server.refuses_create(status, "file", create_contexts=(context,))


def test_contexts_of_a_wrong_size(server: Server) -> None:
    for name in (contexts.ALLOCATION_SIZE, contexts.REQUEST_LEASE, contexts.TIMEWARP_TOKEN):
        with pytest.raises(Malformed):
            server.create("file", create_contexts=(CreateContext(name, b"123"),))


def test_a_pipe_that_nobody_serves(server: Server) -> None:
    vfs, server.tree.vfs = server.tree.vfs, None
    server.refuses_create(NtStatus.OBJECT_NAME_NOT_FOUND, "spoolss")
    server.tree.vfs = vfs


@tries(300)
@given(
    name=st.text(st.characters(), max_size=12) | st.text(alphabet="aA.\\:*/$DAT\0ü", max_size=16),
    fields=st.fixed_dictionaries(
        {
            "desired_access": st.integers(0, 0xFFFFFFFF) | st.just(access.ALL),
            "create_disposition": st.integers(0, 6),
            "create_options": st.integers(0, 0xFFFFFFFF) | st.sampled_from(list(O)),
            "file_attributes": st.integers(0, 0xFFFF),
            "share_access": st.integers(0, 8),
            "impersonation_level": st.integers(0, 5),
        }
    ),
    cut=st.integers(0, 400),
    flip=st.tuples(st.integers(0, 200), st.integers(0, 255)),
)
def test_only_refusals_come_out(
    server: Server, name: str, fields: dict[str, int], cut: int, flip: tuple[int, int]
) -> None:
    body = bytearray(CreateRequest(name, **fields).pack()[:cut])
    if flip[0] < len(body):
        body[flip[0]] = flip[1]
    try:
        create.serve(server.call(bytes(body)))
    except (StatusError, Malformed):
        pass
    for opened in list(server.session.opens.values()):
        opened.close()
    server.session.opens.clear()
    assert sorted(os.listdir(server.outside)) == ["secret"]


def test_a_share_without_streams(server: Server) -> None:
    (server.path / "file").touch()
    server.tree.share = dataclasses.replace(server.tree.share, vfs_objects=("acl_xattr",))
    for name in ("file:zone", "file::$DATA", "file:zone:$DATA"):
        server.refuses_create(NtStatus.OBJECT_NAME_INVALID, name)
    server.close(server.open("file"))


@pytest.mark.parametrize("first", ["file", "stream"])
def test_a_file_goes_with_the_last_open_of_its_streams(server: Server, first: str) -> None:
    doomed = server.open("file", create_disposition=D.CREATE, create_options=O.DELETE_ON_CLOSE)
    streams = [
        server.open(f"file:{name}", access.READ_DATA, create_disposition=D.OPEN_IF)
        for name in ("one", "two")
    ]
    order = [doomed, *streams] if first == "file" else [*streams, doomed]
    for one in order[:-1]:
        server.close(one)
        assert (server.path / "file").exists()
    if first == "file":
        for name in ("file", "file:one", "file:new"):
            server.refuses_create(NtStatus.DELETE_PENDING, name, create_disposition=D.OPEN_IF)
    server.close(order[-1])
    assert not (server.path / "file").exists()
    server.close(server.open("file", create_disposition=D.CREATE))
