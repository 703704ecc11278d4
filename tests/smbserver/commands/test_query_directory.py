from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver import access
from smbserver.commands import query_directory
from smbserver.vfs import dos_attributes as dos
from smbserver.vfs.short_names import short_name
from smbserver.wire.create import CreateDisposition, CreateOptions
from smbserver.wire.directory_information import CLASSES, DirectoryEntry, parse_entries
from smbserver.wire.errors import Malformed
from smbserver.wire.file_id import FileId
from smbserver.wire.file_information import FileInformationClass as C
from smbserver.wire.query_directory import (
    QueryDirectoryFlags,
    QueryDirectoryRequest,
    QueryDirectoryResponse,
)
from smbserver.wire.status import NtStatus, StatusError
from tests.effort import tries

from .conftest import Server


@pytest.fixture
def folder(server: Server) -> FileId:
    for name in ("b.txt", "a b.TXT", "größe 😀.md"):
        (server.path / name).write_text(name)
    (server.path / "folder").mkdir()
    return server.open("", access.LIST_DIRECTORY)


def query(
    server: Server,
    file_id: FileId,
    pattern: str = "*",
    flags: int = 0,
    kind: int = C.FILE_ID_FULL_DIRECTORY,
    room: int = 65536,
    index: int = 0,
) -> list[DirectoryEntry]:
    request = QueryDirectoryRequest(kind, file_id, pattern, room, flags, index)
    reply = server.request(query_directory, request)
    response = QueryDirectoryResponse.parse(bytes(64) + reply.body)
    assert len(response.output_buffer) <= room
    return parse_entries(kind, response.output_buffer)


def names(entries: list[DirectoryEntry]) -> list[str]:
    return [entry.file_name for entry in entries]


ALL = [".", "..", "a b.TXT", "b.txt", "folder", "größe 😀.md"]


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_every_class(server: Server, folder: FileId, kind: int) -> None:
    entries = query(server, folder, kind=kind)
    assert names(entries) == ALL
    file = entries[3]
    if kind != C.FILE_NAMES:
        assert file.end_of_file == 5
        assert file.last_write_time > 0
        assert entries[4].file_attributes == dos.DIRECTORY
    if kind in (C.FILE_ID_FULL_DIRECTORY, C.FILE_ID_BOTH_DIRECTORY, C.FILE_ID_EXTD_DIRECTORY):
        assert file.file_id == os.stat(server.path / "b.txt").st_ino
    request = QueryDirectoryRequest(kind, folder)
    server.refuses(NtStatus.NO_MORE_FILES, query_directory, request)


def test_patterns_and_new_scans(server: Server, folder: FileId) -> None:
    assert names(query(server, folder, "*.txt")) == ["a b.TXT", "b.txt"]
    request = QueryDirectoryRequest(C.FILE_NAMES, folder, "*")
    server.refuses(NtStatus.NO_MORE_FILES, query_directory, request)
    restart = QueryDirectoryFlags.RESTART_SCANS
    assert names(query(server, folder, "GRÖßE 😀.MD", restart)) == ["größe 😀.md"]
    assert names(query(server, folder, "", QueryDirectoryFlags.REOPEN)) == ["größe 😀.md"]
    assert names(query(server, folder, "<", QueryDirectoryFlags.REOPEN)) == ["folder"]
    request = QueryDirectoryRequest(C.FILE_NAMES, folder, "nothing", flags=restart)
    server.refuses(NtStatus.NO_SUCH_FILE, query_directory, request)


def test_one_by_one_and_from_an_index(server: Server, folder: FileId) -> None:
    single = QueryDirectoryFlags.RETURN_SINGLE_ENTRY
    seen = [query(server, folder, flags=single)[0] for _ in ALL]
    assert names(seen) == ALL
    index = seen[2].file_index
    assert (
        names(query(server, folder, flags=QueryDirectoryFlags.INDEX_SPECIFIED, index=index))
        == ALL[3:]
    )


def test_answers_are_as_long_as_the_client_allows(server: Server, folder: FileId) -> None:
    for number in range(200):
        (server.path / f"file{number:03}").touch()
    found: list[str] = []
    while len(found) < 206:
        found += names(query(server, folder, room=1000))
    assert found == sorted(found, key=lambda name: (name not in (".", ".."), name))
    assert len(set(found)) == 206


@pytest.mark.parametrize("name", ["a:b", "star*", "back\\slash", "\udcff"])
def test_what_no_client_could_write_is_known_by_its_short_name(
    server: Server, folder: FileId, name: str
) -> None:
    (server.path / name).write_text("content")
    (short,) = set(names(query(server, folder))) - set(ALL)
    assert short == short_name(name)
    (entry,) = query(server, folder, short, flags=QueryDirectoryFlags.REOPEN)
    assert entry.end_of_file == len("content")
    server.close(server.open(short, create_options=CreateOptions.DELETE_ON_CLOSE))
    assert not (server.path / name).exists()


def test_who_makes_a_file_by_its_short_name_means_the_long_one(
    server: Server, folder: FileId
) -> None:
    name = "a rather long name.html"
    (server.path / name).touch()
    (entry,) = query(server, folder, name, kind=C.FILE_BOTH_DIRECTORY)
    (server.path / name).unlink()
    server.close(server.open(entry.short_name, create_disposition=CreateDisposition.CREATE))
    assert (server.path / name).exists()


def test_what_is_refused(server: Server, folder: FileId) -> None:
    def refused(
        status: NtStatus, file_id: FileId, kind: int = C.FILE_NAMES, room: int = 4096
    ) -> None:
        request = QueryDirectoryRequest(kind, file_id, "*", room)
        server.refuses(status, query_directory, request)

    refused(NtStatus.INVALID_INFO_CLASS, folder, C.FILE_BASIC)
    refused(NtStatus.INFO_LENGTH_MISMATCH, folder, room=11)
    refused(NtStatus.INFO_LENGTH_MISMATCH, folder, room=13)
    refused(NtStatus.INVALID_PARAMETER, folder, room=(1 << 20) + 1)
    refused(NtStatus.INVALID_PARAMETER, server.open("b.txt"))
    refused(NtStatus.ACCESS_DENIED, server.open("folder", access.READ_ATTRIBUTES))


def test_entries_that_went_meanwhile_and_links_out_are_left_out(
    server: Server, folder: FileId
) -> None:
    (server.path / "out").symlink_to(server.outside / "secret")
    (server.path / "in").symlink_to("b.txt")
    query(server, folder, flags=QueryDirectoryFlags.RETURN_SINGLE_ENTRY)
    (server.path / "b.txt").unlink()
    (server.path / "in").unlink()
    assert names(query(server, folder)) == ["..", "a b.TXT", "folder", "größe 😀.md"]


@tries(300)
@given(
    kind=st.integers(0, 65),
    pattern=st.text(st.characters(), max_size=8) | st.text(alphabet='*?<>".a\0/\\:', max_size=8),
    flags=st.integers(0, 255),
    room=st.integers(0, 2000),
    index=st.integers(0, 0xFFFFFFFF),
    cut=st.integers(0, 60),
)
def test_only_refusals_come_out(
    server: Server,
    folder: FileId,
    kind: int,
    pattern: str,
    flags: int,
    room: int,
    index: int,
    cut: int,
) -> None:
    request = QueryDirectoryRequest(kind, folder, pattern, room, flags, index).pack()
    call = server.call(request[: len(request) - cut], server.session.opens[folder.volatile])
    try:
        query_directory.serve(call)
    except (StatusError, Malformed):
        pass
