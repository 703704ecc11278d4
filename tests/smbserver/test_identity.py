from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

from smbserver import access, identity
from smbserver.commands import query_directory
from smbserver.user import User
from smbserver.wire.create import CreateDisposition, CreateOptions
from smbserver.wire.directory_information import parse_entries
from smbserver.wire.file_information import FileInformationClass
from smbserver.wire.query_directory import QueryDirectoryRequest, QueryDirectoryResponse
from smbserver.wire.status import NtStatus

from .commands.conftest import Server, server  # noqa: F401

OTHER = 12345
"""A user whom no system knows."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")


@pytest.fixture
def as_other(server: Server) -> Server:  # noqa: F811
    """A session of a user who owns nothing."""
    server.session.user = User("other", OTHER)
    return server


def test_what_is_made_belongs_to_the_user(as_other: Server) -> None:
    as_other.path.chmod(0o777)
    as_other.close(as_other.open("file", create_disposition=CreateDisposition.CREATE))
    folder = CreateOptions.DIRECTORY_FILE
    as_other.close(
        as_other.open("dir", create_disposition=CreateDisposition.CREATE, create_options=folder)
    )
    for name in ("file", "dir"):
        facts = os.stat(as_other.path / name)
        assert (facts.st_uid, facts.st_gid) == (OTHER, identity.NOBODY)


def test_what_the_user_may_not_is_refused(as_other: Server) -> None:
    (as_other.path / "secret").write_text("secret")
    (as_other.path / "secret").chmod(0o600)
    (as_other.path / "readable").touch(0o644)
    as_other.refuses_create(NtStatus.ACCESS_DENIED, "secret", access.READ_DATA)
    as_other.refuses_create(NtStatus.ACCESS_DENIED, "readable", access.WRITE_DATA)
    as_other.refuses_create(
        NtStatus.ACCESS_DENIED, "new", create_disposition=CreateDisposition.CREATE
    )
    one = as_other.open("readable", access.MAXIMUM_ALLOWED)
    granted = as_other.session.opens[one.volatile].granted_access
    assert granted & access.READ_DATA
    assert not granted & access.WRITING
    assert not granted & access.DELETE
    as_other.refuses_create(
        NtStatus.ACCESS_DENIED,
        "readable",
        access.DELETE,
        create_options=CreateOptions.DELETE_ON_CLOSE,
    )
    as_other.close(one)
    as_other.path.chmod(0o777)
    as_other.close(as_other.open("readable", access.DELETE))


def test_what_the_user_may_not_read_is_hidden_where_the_share_says_so(as_other: Server) -> None:
    for name, mode in (("secret", 0o600), ("readable", 0o644)):
        (as_other.path / name).touch()
        (as_other.path / name).chmod(mode)
    vfs = as_other.tree.vfs
    assert vfs is not None
    for hide, expected in ((False, ["readable", "secret"]), (True, ["readable"])):
        vfs.parameters = dataclasses.replace(vfs.parameters, hide_unreadable=hide)
        folder = as_other.open("", access.LIST_DIRECTORY)
        request = QueryDirectoryRequest(FileInformationClass.FILE_NAMES, folder, "*", 65536)
        reply = as_other.request(query_directory, request)
        buffer = QueryDirectoryResponse.parse(bytes(64) + reply.body).output_buffer
        entries = parse_entries(FileInformationClass.FILE_NAMES, buffer)
        assert [one.file_name for one in entries][2:] == expected
        as_other.close(folder)


def test_the_identity_is_this_threads_and_ends(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    owners: list[int] = []

    def touch(name: str) -> None:
        (tmp_path / name).touch()
        owners.append(os.stat(tmp_path / name).st_uid)

    root = os.open(tmp_path, os.O_PATH)
    with identity.identity_of(OTHER):
        thread = threading.Thread(target=os.close, args=(os.dup(root),))
        with identity.identity_of(OTHER + 1), identity.identity_of(OTHER + 1):
            os.close(os.open("inner", os.O_CREAT | os.O_WRONLY, dir_fd=root))
        os.close(os.open("outer", os.O_CREAT | os.O_WRONLY, dir_fd=root))
    thread.start()
    thread.join()
    touch("after")
    os.close(root)
    assert os.stat(tmp_path / "inner").st_uid == OTHER + 1
    assert os.stat(tmp_path / "outer").st_uid == OTHER
    assert owners == [0]
