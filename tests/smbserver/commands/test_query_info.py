from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver import access
from smbserver.commands import query_info
from smbserver.dispatch import Reply
from smbserver.user import User
from smbserver.vfs import dos_attributes as dos
from smbserver.wire import file_information as info
from smbserver.wire import filesystem_information as fs
from smbserver.wire.create import CreateDisposition
from smbserver.wire.errors import Malformed
from smbserver.wire.file_id import FileId
from smbserver.wire.file_information import FileInformationClass as C
from smbserver.wire.filesystem_information import FsInformationClass as F
from smbserver.wire.negotiate import Dialect
from smbserver.wire.query_info import InfoType, QueryInfoRequest, QueryInfoResponse
from smbserver.wire.security_descriptor import SecurityDescriptor, unix_user
from smbserver.wire.status import NtStatus, StatusError
from tests.effort import tries

from .conftest import Server


@pytest.fixture
def file_id(server: Server) -> FileId:
    (server.path / "dir").mkdir()
    (server.path / "dir" / "file").write_text("12345")
    return server.open("DIR\\FILE")


def query(
    server: Server,
    file_id: FileId,
    kind: int,
    room: int = 4096,
    of: int = InfoType.FILE,
    more: int = 0,
) -> Reply:
    return server.request(query_info, QueryInfoRequest(of, kind, file_id, room, more))


def data(reply: Reply) -> memoryview:
    return memoryview(QueryInfoResponse.parse(bytes(64) + reply.body).output_buffer)


def test_all_of_a_file_and_of_the_root(server: Server, file_id: FileId) -> None:
    everything = info.FileAllInformation.parse(data(query(server, file_id, C.FILE_ALL)))
    facts = os.stat(server.path / "dir" / "file")
    assert everything.standard.end_of_file == 5
    assert everything.standard.number_of_links == 1
    assert everything.internal.index_number == facts.st_ino
    assert everything.access.access_flags == access.ALL
    assert everything.name.file_name == "\\dir\\file"
    root = data(query(server, server.open(""), C.FILE_ALL))
    assert len(root) >= 101
    assert info.FileAllInformation.parse(root).name.file_name == "\\"


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (C.FILE_BASIC, 40),
        (C.FILE_STANDARD, 24),
        (C.FILE_INTERNAL, 8),
        (C.FILE_EA, 4),
        (C.FILE_ACCESS, 4),
        (C.FILE_POSITION, 8),
        (C.FILE_MODE, 4),
        (C.FILE_ALIGNMENT, 4),
        (C.FILE_COMPRESSION, 16),
        (C.FILE_NETWORK_OPEN, 56),
        (C.FILE_ATTRIBUTE_TAG, 8),
        (C.FILE_ID, 24),
    ],
)
def test_classes_of_fixed_size(server: Server, file_id: FileId, kind: int, size: int) -> None:
    assert len(data(query(server, file_id, kind, room=size))) == size
    request = QueryInfoRequest(InfoType.FILE, kind, file_id, size - 1)
    server.refuses(NtStatus.INFO_LENGTH_MISMATCH, query_info, request)


def test_long_answers_are_cut(server: Server, file_id: FileId) -> None:
    reply = query(server, file_id, C.FILE_ALL, room=104)
    assert reply.status == NtStatus.BUFFER_OVERFLOW
    assert len(data(reply)) == 104
    reply = query(server, file_id, C.FILE_NAME, room=8)
    assert reply.status == NtStatus.BUFFER_OVERFLOW
    assert bytes(data(reply)) == b"\x12\0\0\0\\\0d\0"


def test_names(server: Server, file_id: FileId) -> None:
    def name(kind: int) -> str:
        return info.FileNameInformation.parse(data(query(server, file_id, kind))).file_name

    assert name(C.FILE_NAME) == "\\dir\\file"
    assert name(C.FILE_NORMALIZED_NAME) == "dir\\file"
    assert name(C.FILE_ALTERNATE_NAME) == "FILE"
    server.connection.dialect = Dialect.SMB_3_0
    request = QueryInfoRequest(InfoType.FILE, C.FILE_NORMALIZED_NAME, file_id)
    server.refuses(NtStatus.NOT_SUPPORTED, query_info, request)


def test_streams(server: Server, file_id: FileId) -> None:
    stream = server.open("dir\\file:zone", create_disposition=CreateDisposition.CREATE)
    server.session.opens[stream.volatile].handle.write(memoryview(b"123"), 0)  # type: ignore[union-attr]
    listed = info.FileStreamInformation.parse_all(data(query(server, stream, C.FILE_STREAM)))
    assert [(one.stream_name, one.stream_size) for one in listed] == [
        ("::$DATA", 5),
        (":zone:$DATA", 3),
    ]
    standard = info.FileStandardInformation.parse(data(query(server, stream, C.FILE_STANDARD)))
    assert standard.end_of_file == 3
    assert not standard.directory
    assert info.FileNameInformation.parse(data(query(server, stream, C.FILE_NAME))).file_name == (
        "\\dir\\file:zone"
    )


def test_extended_attributes(server: Server, file_id: FileId) -> None:
    request = QueryInfoRequest(InfoType.FILE, C.FILE_FULL_EA, file_id)
    server.refuses(NtStatus.NO_EAS_ON_FILE, query_info, request)
    os.setxattr(server.path / "dir" / "file", "user.colour", b"blue")
    attributes = info.FileFullEaInformation.parse_all(data(query(server, file_id, C.FILE_FULL_EA)))
    assert [(one.ea_name, one.ea_value) for one in attributes] == [(b"colour", b"blue")]
    assert info.FileEaInformation.parse(data(query(server, file_id, C.FILE_EA))).ea_size > 0


def test_the_file_system(server: Server, file_id: FileId) -> None:
    def ask(kind: int) -> memoryview:
        return data(query(server, file_id, kind, of=InfoType.FILESYSTEM))

    space = os.statvfs(server.path)
    full = fs.FileFsFullSizeInformation.parse(ask(F.FILE_FS_FULL_SIZE))
    unit = full.sectors_per_allocation_unit * full.bytes_per_sector
    assert full.total_allocation_units * unit == space.f_blocks * space.f_frsize
    size = fs.FileFsSizeInformation.parse(ask(F.FILE_FS_SIZE))
    assert size.total_allocation_units == full.total_allocation_units
    assert fs.FileFsVolumeInformation.parse(ask(F.FILE_FS_VOLUME)).volume_label == "share"
    assert fs.FileFsDeviceInformation.parse(ask(F.FILE_FS_DEVICE)).device_type == fs.DeviceType.DISK
    attribute = fs.FileFsAttributeInformation.parse(ask(F.FILE_FS_ATTRIBUTE))
    assert attribute.maximum_component_name_length == 255
    assert attribute.file_system_attributes & fs.FileSystemAttributes.NAMED_STREAMS
    assert fs.FileFsSectorSizeInformation.parse(ask(F.FILE_FS_SECTOR_SIZE)).logical_bytes_per_sector


@pytest.mark.parametrize(
    ("of", "kind", "status"),
    [
        (InfoType.FILE, C.FILE_RENAME, NtStatus.INVALID_INFO_CLASS),
        (InfoType.FILE, 200, NtStatus.INVALID_INFO_CLASS),
        (InfoType.FILESYSTEM, 99, NtStatus.INVALID_INFO_CLASS),
        (InfoType.QUOTA, 0, NtStatus.INVALID_HANDLE),
        (9, 0, NtStatus.INVALID_PARAMETER),
    ],
)
def test_refusals(server: Server, file_id: FileId, of: int, kind: int, status: NtStatus) -> None:
    server.refuses(status, query_info, QueryInfoRequest(of, kind, file_id))


def test_rights(server: Server, file_id: FileId) -> None:
    blind = server.open("dir\\file", access.READ_DATA)
    for kind in (C.FILE_BASIC, C.FILE_ALL, C.FILE_NETWORK_OPEN, C.FILE_FULL_EA):
        request = QueryInfoRequest(InfoType.FILE, kind, blind)
        server.refuses(NtStatus.ACCESS_DENIED, query_info, request)
    request = QueryInfoRequest(InfoType.SECURITY, 0, blind, additional_information=1)
    server.refuses(NtStatus.ACCESS_DENIED, query_info, request)
    request = QueryInfoRequest(InfoType.SECURITY, 0, file_id, additional_information=8)
    server.refuses(NtStatus.ACCESS_DENIED, query_info, request)


def test_security(server: Server, file_id: FileId) -> None:
    (server.path / "dir" / "file").chmod(0o640)
    raw = data(query(server, file_id, 0, of=InfoType.SECURITY, more=7))
    descriptor = SecurityDescriptor.parse(raw)
    assert descriptor.owner == unix_user(os.getuid())
    assert descriptor.dacl is not None
    owner, group, everyone = (ace.mask for ace in descriptor.dacl.aces)
    assert owner & access.WRITE_DATA
    assert group & access.READ_DATA
    assert not everyone & access.READ_DATA
    request = QueryInfoRequest(InfoType.SECURITY, 0, file_id, 10, additional_information=7)
    with pytest.raises(StatusError) as refused:
        server.request(query_info, request)
    assert refused.value.status == NtStatus.BUFFER_TOO_SMALL
    assert refused.value.data == len(raw).to_bytes(4, "little")


@tries(300)
@given(
    of=st.integers(0, 5), kind=st.integers(0, 70), room=st.integers(0, 200), more=st.integers(0, 31)
)
def test_only_refusals_come_out(
    server: Server, file_id: FileId, of: int, kind: int, room: int, more: int
) -> None:
    try:
        reply = query(server, file_id, kind, room, of, more)
    except (StatusError, Malformed):
        return
    assert len(data(reply)) <= room


def test_the_file_of_quotas(server: Server) -> None:
    name = "$Extend\\$Quota:$Q:$INDEX_ALLOCATION"
    server.session.user = User("somebody", 12345)
    server.refuses_create(NtStatus.ACCESS_DENIED, name, access.READ_DATA)
    server.session.user = User("root", 0)
    created = server.create(name, access.READ_DATA, create_disposition=CreateDisposition.OPEN)
    assert created.file_attributes == dos.HIDDEN | dos.SYSTEM | dos.DIRECTORY | dos.ARCHIVE
    assert not created.creation_time
    wanted = QueryInfoRequest(InfoType.QUOTA, 0, created.file_id)
    server.refuses(NtStatus.NO_MORE_ENTRIES, query_info, wanted)
    server.refuses_create(NtStatus.ACCESS_DENIED, name, access.DELETE)
    server.close(created.file_id)
