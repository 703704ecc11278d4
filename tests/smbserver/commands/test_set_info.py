from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver import access, file_security
from smbserver.commands import set_info
from smbserver.vfs import dos_attributes as dos
from smbserver.wire import file_information as info
from smbserver.wire.create import CreateDisposition, CreateOptions
from smbserver.wire.errors import Malformed
from smbserver.wire.file_id import FileId
from smbserver.wire.file_information import FileInformationClass as C
from smbserver.wire.filetime import from_unix_ns
from smbserver.wire.query_info import InfoType
from smbserver.wire.security_descriptor import (
    EVERYONE,
    Ace,
    AceType,
    Acl,
    SecurityDescriptor,
)
from smbserver.wire.set_info import SetInfoRequest
from smbserver.wire.status import NtStatus, StatusError
from tests.effort import tries

from .conftest import Server


@pytest.fixture
def file_id(server: Server) -> FileId:
    (server.path / "file").write_text("12345")
    (server.path / "other").write_text("other")
    (server.path / "folder").mkdir()
    return server.open("file")


def request(file_id: FileId, kind: int, data: Any) -> SetInfoRequest:
    buffer = data if isinstance(data, bytes) else data.pack()
    return SetInfoRequest(InfoType.FILE, kind, file_id, buffer)


def change(server: Server, file_id: FileId, kind: int, data: Any) -> None:
    server.request(set_info, request(file_id, kind, data))


def refused(server: Server, status: NtStatus, file_id: FileId, kind: int, data: Any) -> None:
    server.refuses(status, set_info, request(file_id, kind, data))


def listing(server: Server) -> list[str]:
    return sorted(os.listdir(server.path))


def test_times_and_attributes(server: Server, file_id: FileId) -> None:
    times = [from_unix_ns(second * 1_000_000_000) for second in (1000, 2000, 3000)]
    basic = info.FileBasicInformation(*times, 0, dos.HIDDEN | dos.ARCHIVE)
    change(server, file_id, C.FILE_BASIC, basic)
    facts = os.stat(server.path / "file")
    assert (facts.st_atime, facts.st_mtime) == (2000, 3000)
    change(server, file_id, C.FILE_BASIC, info.FileBasicInformation(0, -1, -2, 0, 0))
    now = server.session.opens[file_id.volatile].handle.metadata()
    assert [now.creation_time, now.last_access_time, now.last_write_time] == times
    assert now.attributes == dos.HIDDEN | dos.ARCHIVE
    change(server, file_id, C.FILE_BASIC, info.FileBasicInformation(0, 0, 0, 0, dos.NORMAL))
    assert server.session.opens[file_id.volatile].handle.metadata().attributes == dos.NORMAL
    folder = server.open("folder")
    temporary = info.FileBasicInformation(0, 0, 0, 0, dos.TEMPORARY)
    refused(server, NtStatus.INVALID_PARAMETER, folder, C.FILE_BASIC, temporary)
    for wrong in (
        info.FileBasicInformation(-3, 0, 0, 0, 0),
        info.FileBasicInformation(0, 0, 0, 0, dos.DIRECTORY),
        info.FileBasicInformation(0, 0, 0, 0, 0x80000000),
    ):
        refused(server, NtStatus.INVALID_PARAMETER, file_id, C.FILE_BASIC, wrong)


def test_a_change_time_is_told_until_the_next_change(server: Server, file_id: FileId) -> None:
    wanted = from_unix_ns(5_000_000_000)
    other = server.session.opens[server.open("file").volatile]
    change(server, file_id, C.FILE_BASIC, info.FileBasicInformation(0, 0, 0, wanted, 0))
    assert other.metadata().change_time == wanted
    deadline = time.monotonic() + 5
    while other.metadata().change_time == wanted:  # the clock of file systems is a coarse one
        assert time.monotonic() < deadline
        (server.path / "file").chmod(0o600)


def test_sizes(server: Server, file_id: FileId) -> None:
    path = server.path / "file"
    change(server, file_id, C.FILE_END_OF_FILE, info.FileEndOfFileInformation(2))
    assert path.read_bytes() == b"12"
    change(server, file_id, C.FILE_END_OF_FILE, info.FileEndOfFileInformation(4))
    assert path.read_bytes() == b"12\0\0"
    change(server, file_id, C.FILE_ALLOCATION, info.FileAllocationInformation(1 << 20))
    assert path.stat().st_size == 4
    assert path.stat().st_blocks * 512 >= 1 << 20
    change(server, file_id, C.FILE_ALLOCATION, info.FileAllocationInformation(1))
    assert path.read_bytes() == b"1"
    wrong = info.FileEndOfFileInformation(-1)
    refused(server, NtStatus.INVALID_PARAMETER, file_id, C.FILE_END_OF_FILE, wrong)
    one = info.FileEndOfFileInformation(1)
    refused(server, NtStatus.INVALID_PARAMETER, server.open("folder"), C.FILE_END_OF_FILE, one)


def test_deletion(server: Server, file_id: FileId) -> None:
    change(server, file_id, C.FILE_DISPOSITION, info.FileDispositionInformation(True))
    server.refuses_create(NtStatus.DELETE_PENDING, "file")
    change(server, file_id, C.FILE_DISPOSITION, info.FileDispositionInformation(False))
    second = server.open("file")
    change(server, file_id, C.FILE_DISPOSITION_EX, info.FileDispositionInformationEx(1))
    server.close(file_id)
    assert "file" in listing(server)
    server.close(second)
    assert listing(server) == ["folder", "other"]


def test_what_is_not_deleted(server: Server, file_id: FileId) -> None:
    delete = info.FileDispositionInformation(True)
    (server.path / "folder" / "below").touch()
    folder = server.open("folder")
    refused(server, NtStatus.DIRECTORY_NOT_EMPTY, folder, C.FILE_DISPOSITION, delete)
    refused(server, NtStatus.ACCESS_DENIED, server.open(""), C.FILE_DISPOSITION, delete)
    change(server, file_id, C.FILE_BASIC, info.FileBasicInformation(0, 0, 0, 0, dos.READONLY))
    refused(server, NtStatus.CANNOT_DELETE, file_id, C.FILE_DISPOSITION, delete)
    weak = server.open("other", access.READ_DATA)
    refused(server, NtStatus.ACCESS_DENIED, weak, C.FILE_DISPOSITION, delete)
    ignoring = info.FileDispositionInformationEx(1 | 0x10)
    change(server, file_id, C.FILE_DISPOSITION_EX, ignoring)


def rename(name: str, replace: bool = False) -> info.FileRenameInformation:
    return info.FileRenameInformation(name, replace)


def test_rename(server: Server, file_id: FileId) -> None:
    change(server, file_id, C.FILE_RENAME, rename("FOLDER\\Größe 😀"))
    assert os.listdir(server.path / "folder") == ["Größe 😀"]
    assert server.session.opens[file_id.volatile].path == "folder/Größe 😀"
    change(server, file_id, C.FILE_RENAME, rename("folder\\GRÖßE 😀"))
    assert os.listdir(server.path / "folder") == ["GRÖßE 😀"]
    refused(server, NtStatus.OBJECT_NAME_COLLISION, file_id, C.FILE_RENAME, rename("OTHER"))
    change(server, file_id, C.FILE_RENAME, rename("OTHER", replace=True))
    assert listing(server) == ["folder", "other"]
    assert (server.path / "other").read_text() == "12345"
    server.close(file_id)


def test_rename_of_a_directory(server: Server, file_id: FileId) -> None:
    folder = server.open("folder")
    below = server.open("folder\\below", create_disposition=CreateDisposition.CREATE)
    refused(server, NtStatus.ACCESS_DENIED, folder, C.FILE_RENAME, rename("new"))
    server.close(below)
    change(server, folder, C.FILE_RENAME, rename("new"))
    assert listing(server) == ["file", "new", "other"]
    refused(server, NtStatus.SHARING_VIOLATION, folder, C.FILE_RENAME, rename("new\\x"))


def test_a_rename_opens_the_folder_of_the_target(server: Server, file_id: FileId) -> None:
    for rights, shared, fits in (
        (access.LIST_DIRECTORY, 7, True),
        (access.LIST_DIRECTORY, 3, True),
        (access.LIST_DIRECTORY, 1, False),
        (access.LIST_DIRECTORY | access.DELETE, 7, False),
        (access.READ_ATTRIBUTES, 0, True),
    ):
        folder = server.open("folder", rights, share_access=shared)
        if fits:
            change(server, file_id, C.FILE_RENAME, rename("folder\\file"))
            change(server, file_id, C.FILE_RENAME, rename("file"))
        else:
            target = rename("folder\\file")
            refused(server, NtStatus.SHARING_VIOLATION, file_id, C.FILE_RENAME, target)
        server.close(folder)


def test_renames_that_are_refused(server: Server, file_id: FileId) -> None:
    (server.path / "out").symlink_to(server.outside)
    server.open("other")
    refused(server, NtStatus.ACCESS_DENIED, file_id, C.FILE_RENAME, rename("other", True))
    refused(server, NtStatus.ACCESS_DENIED, file_id, C.FILE_RENAME, rename("folder", True))
    refused(server, NtStatus.OBJECT_PATH_NOT_FOUND, file_id, C.FILE_RENAME, rename("no\\x"))
    refused(server, NtStatus.OBJECT_PATH_SYNTAX_BAD, file_id, C.FILE_RENAME, rename("..\\x"))
    refused(server, NtStatus.INVALID_PARAMETER, file_id, C.FILE_RENAME, rename("\\x"))
    refused(server, NtStatus.INVALID_PARAMETER, file_id, C.FILE_RENAME, rename(""))
    refused(server, NtStatus.OBJECT_NAME_INVALID, file_id, C.FILE_RENAME, rename("file:s"))
    refused(server, NtStatus.ACCESS_DENIED, file_id, C.FILE_RENAME, rename("out\\x"))
    refused(server, NtStatus.INVALID_PARAMETER, server.open(""), C.FILE_RENAME, rename("x"))
    weak = server.open("file", access.WRITE_DATA)
    refused(server, NtStatus.ACCESS_DENIED, weak, C.FILE_RENAME, rename("x"))
    assert os.listdir(server.outside) == ["secret"]


def test_link(server: Server, file_id: FileId) -> None:
    change(server, file_id, C.FILE_LINK, info.FileLinkInformation("folder\\second"))
    assert os.stat(server.path / "folder" / "second").st_nlink == 2
    taken = info.FileLinkInformation("other")
    refused(server, NtStatus.OBJECT_NAME_COLLISION, file_id, C.FILE_LINK, taken)
    change(server, file_id, C.FILE_LINK, info.FileLinkInformation("other", True))
    assert os.stat(server.path / "file").st_nlink == 3
    folder = server.open("folder")
    refused(
        server, NtStatus.FILE_IS_A_DIRECTORY, folder, C.FILE_LINK, info.FileLinkInformation("x")
    )
    server.tree.maximal_access = 0x001200A9
    refused(server, NtStatus.ACCESS_DENIED, file_id, C.FILE_LINK, info.FileLinkInformation("x"))


def test_extended_attributes(server: Server, file_id: FileId) -> None:
    def attributes(name: bytes, value: bytes) -> bytes:
        return info.FileFullEaInformation.pack_all([info.FileFullEaInformation(name, value)])

    change(server, file_id, C.FILE_FULL_EA, attributes(b"colour", b"blue"))
    assert os.getxattr(server.path / "file", "user.colour") == b"blue"
    change(server, file_id, C.FILE_FULL_EA, attributes(b"colour", b""))
    assert os.listxattr(server.path / "file") == []
    for name in (b"DOSATTRIB", b"DosStream.x:$DATA", b""):
        wrong = attributes(name, b"x")
        refused(server, NtStatus.ACCESS_DENIED, file_id, C.FILE_FULL_EA, wrong)
    wrong = attributes(b"\xff", b"x")
    refused(server, NtStatus.INVALID_EA_NAME, file_id, C.FILE_FULL_EA, wrong)


def test_a_security_descriptor_where_the_share_wants_it(server: Server, file_id: FileId) -> None:
    assert server.tree.vfs is not None
    name = "user.descriptor"
    server.tree.vfs.parameters = dataclasses.replace(
        server.tree.vfs.parameters, security_acl_name=name
    )
    acl = Acl((Ace(AceType.ACCESS_ALLOWED, mask=access.ALL, sid=EVERYONE),))
    buffer = SecurityDescriptor(EVERYONE, EVERYONE, None, acl).pack()
    wanted = SetInfoRequest(InfoType.SECURITY, 0, file_id, buffer, file_security.DACL)
    server.request(set_info, wanted)
    assert name in os.listxattr(server.path / "file")
    opened = server.session.opens[file_id.volatile]
    found = file_security.effective(server.tree.vfs, opened.handle, file_security.DACL)
    assert found.dacl == acl
    hidden = info.FileFullEaInformation.pack_all([info.FileFullEaInformation(b"descriptor", b"x")])
    refused(server, NtStatus.ACCESS_DENIED, file_id, C.FILE_FULL_EA, hidden)


def test_position_and_mode(server: Server, file_id: FileId) -> None:
    opened = server.session.opens[file_id.volatile]
    change(server, file_id, C.FILE_POSITION, info.FilePositionInformation(7))
    change(server, file_id, C.FILE_MODE, info.FileModeInformation(2))
    assert opened.position == 7
    assert opened.write_through
    wrong = info.FileModeInformation(CreateOptions.DELETE_ON_CLOSE)
    refused(server, NtStatus.INVALID_PARAMETER, file_id, C.FILE_MODE, wrong)


def test_refusals(server: Server, file_id: FileId) -> None:
    refused(server, NtStatus.INVALID_INFO_CLASS, file_id, 99, b"x")
    refused(server, NtStatus.INFO_LENGTH_MISMATCH, file_id, C.FILE_BASIC, b"123")
    for of, status in (
        (InfoType.SECURITY, NtStatus.INFO_LENGTH_MISMATCH),
        (InfoType.FILESYSTEM, NtStatus.NOT_SUPPORTED),
        (InfoType.QUOTA, NtStatus.NOT_SUPPORTED),
        (9, NtStatus.INVALID_PARAMETER),
    ):
        server.refuses(status, set_info, SetInfoRequest(of, 0, file_id, b"x"))
    weak = server.open("file", access.READ_DATA)
    wrong = SetInfoRequest(InfoType.SECURITY, 0, weak, b"x", file_security.DACL)
    server.refuses(NtStatus.ACCESS_DENIED, set_info, wrong)


@tries(300)
@given(of=st.integers(1, 5), kind=st.integers(0, 70), buffer=st.binary(max_size=64))
def test_only_refusals_come_out(
    server: Server, file_id: FileId, of: int, kind: int, buffer: bytes
) -> None:
    wanted = SetInfoRequest(of, kind, file_id, buffer)
    try:
        server.request(set_info, wanted)
    except (StatusError, Malformed):
        pass
    assert os.listdir(server.outside) == ["secret"]
