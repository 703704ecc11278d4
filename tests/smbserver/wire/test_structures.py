"""Information classes, contexts and descriptors: round trips, and nothing but Malformed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.wire import create_contexts as cc
from smbserver.wire import file_information as fi
from smbserver.wire import filesystem_information as fs
from smbserver.wire.change_notify import FileNotifyInformation
from smbserver.wire.directory_information import (
    CLASSES,
    DirectoryBuffer,
    DirectoryEntry,
    minimum_size,
    pack_entry,
    parse_entries,
)
from smbserver.wire.errors import Malformed
from smbserver.wire.file_id import FileId
from smbserver.wire.interface_info import NetworkInterfaceInfo
from smbserver.wire.ioctl import ValidateNegotiateInfoRequest, ValidateNegotiateInfoResponse
from smbserver.wire.security_descriptor import SecurityDescriptor, Sid
from smbserver.wire.transform import TransformHeader
from tests.smbserver.wire.messages import (
    directory_entries,
    file_ids,
    i64,
    interfaces,
    key16,
    name,
    numbers,
    security_descriptors,
    sids,
    text,
    u16,
    u32,
    u64,
)

basic = st.builds(fi.FileBasicInformation, i64, i64, i64, i64, u32)
standard = st.builds(fi.FileStandardInformation, i64, i64, u32, st.booleans(), st.booleans())

STRUCTURES: dict[str, st.SearchStrategy[Any]] = {
    "FileBasicInformation": basic,
    "FileStandardInformation": standard,
    "FileNetworkOpenInformation": st.builds(
        fi.FileNetworkOpenInformation, i64, i64, i64, i64, i64, i64, u32
    ),
    "FileAttributeTagInformation": st.builds(fi.FileAttributeTagInformation, u32, u32),
    "FileCompressionInformation": st.builds(fi.FileCompressionInformation, i64, u16),
    "FileIdInformation": st.builds(fi.FileIdInformation, u64, key16),
    "FileDispositionInformation": st.builds(fi.FileDispositionInformation, st.booleans()),
    "FileDispositionInformationEx": st.builds(fi.FileDispositionInformationEx, u32),
    "FileEndOfFileInformation": st.builds(fi.FileEndOfFileInformation, i64),
    "FileAllocationInformation": st.builds(fi.FileAllocationInformation, i64),
    "FileNameInformation": st.builds(fi.FileNameInformation, text),
    "FileAllInformation": st.builds(
        fi.FileAllInformation,
        basic,
        standard,
        st.builds(fi.FileInternalInformation, u64),
        st.builds(fi.FileEaInformation, u32),
        st.builds(fi.FileAccessInformation, u32),
        st.builds(fi.FilePositionInformation, i64),
        st.builds(fi.FileModeInformation, u32),
        st.builds(fi.FileAlignmentInformation, u32),
        st.builds(fi.FileNameInformation, text),
    ),
    "FileRenameInformation": st.builds(fi.FileRenameInformation, text, st.booleans(), u64),
    "FileLinkInformation": st.builds(fi.FileLinkInformation, text, st.booleans(), u64),
    "FileFsVolumeInformation": st.builds(fs.FileFsVolumeInformation, i64, u32, text, st.booleans()),
    "FileFsSizeInformation": st.builds(fs.FileFsSizeInformation, i64, i64, u32, u32),
    "FileFsDeviceInformation": st.builds(fs.FileFsDeviceInformation, u32, u32),
    "FileFsAttributeInformation": st.builds(fs.FileFsAttributeInformation, u32, text),
    "FileFsControlInformation": st.builds(fs.FileFsControlInformation, i64, i64, i64, u64, u64),
    "FileFsFullSizeInformation": st.builds(fs.FileFsFullSizeInformation, i64, i64, i64, u32, u32),
    "FileFsObjectIdInformation": st.builds(fs.FileFsObjectIdInformation, key16),
    "FileFsSectorSizeInformation": st.builds(fs.FileFsSectorSizeInformation, u32, u32),
    "Lease 1": st.builds(cc.Lease, key16, u32, u32, st.just(1)),
    "Lease 2": st.builds(cc.Lease, key16, u32, u32, st.just(2), key16, u16),
    "AppInstanceId": st.builds(cc.AppInstanceId, key16),
    "DurableHandleRequest": st.just(cc.DurableHandleRequest()),
    "DurableHandleResponse": st.just(cc.DurableHandleResponse()),
    "DurableHandleReconnect": st.builds(cc.DurableHandleReconnect, file_ids),
    "DurableHandleRequestV2": st.builds(cc.DurableHandleRequestV2, u32, u32, key16),
    "DurableHandleResponseV2": st.builds(cc.DurableHandleResponseV2, u32, u32),
    "DurableHandleReconnectV2": st.builds(cc.DurableHandleReconnectV2, file_ids, key16, u32),
    "AllocationSize": st.builds(cc.AllocationSize, u64),
    "TimewarpToken": st.builds(cc.TimewarpToken, u64),
    "QueryMaximalAccessResponse": st.builds(cc.QueryMaximalAccessResponse, u32, u32),
    "QueryOnDiskIdResponse": st.builds(cc.QueryOnDiskIdResponse, u64, u64),
    "ValidateNegotiateInfoRequest": st.builds(
        ValidateNegotiateInfoRequest, u32, key16, u16, numbers
    ),
    "ValidateNegotiateInfoResponse": st.builds(ValidateNegotiateInfoResponse, u32, key16, u16, u16),
    "TransformHeader": st.builds(TransformHeader, key16, key16, u32, u64, u16),
    "Sid": sids,
}


@pytest.mark.hypothesis
@pytest.mark.parametrize("strategy", STRUCTURES.values(), ids=STRUCTURES.keys())
def test_round_trip(strategy: st.SearchStrategy[Any]) -> None:
    @given(strategy)
    def check(structure: Any) -> None:
        parsed = type(structure).parse(memoryview(structure.pack()))
        assert parsed == structure
        assert parsed.pack() == structure.pack()

    check()


@pytest.mark.hypothesis
@pytest.mark.parametrize("strategy", STRUCTURES.values(), ids=STRUCTURES.keys())
def test_hostile_bytes_are_malformed_or_a_structure(strategy: st.SearchStrategy[Any]) -> None:
    @given(strategy, st.data())
    def check(structure: Any, draw: st.DataObject) -> None:
        packed = bytearray(structure.pack())
        if packed:
            packed[draw.draw(st.integers(0, len(packed) - 1))] = draw.draw(st.integers(0, 255))
        kept = draw.draw(st.integers(0, len(packed)))
        try:
            type(structure).parse(memoryview(packed)[:kept])
        except Malformed:
            pass

    check()


LISTS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "FileStreamInformation": (
        fi.FileStreamInformation,
        st.lists(st.builds(fi.FileStreamInformation, name, i64, i64), max_size=4),
    ),
    "FileFullEaInformation": (
        fi.FileFullEaInformation,
        st.lists(
            st.builds(
                fi.FileFullEaInformation,
                st.binary(min_size=1, max_size=20),
                st.binary(max_size=20),
            ),
            max_size=4,
        ),
    ),
    "FileNotifyInformation": (
        FileNotifyInformation,
        st.lists(st.builds(FileNotifyInformation, u32, name), max_size=4),
    ),
    "NetworkInterfaceInfo": (NetworkInterfaceInfo, interfaces),
}


@pytest.mark.hypothesis
@pytest.mark.parametrize(("kind", "entries"), LISTS.values(), ids=LISTS.keys())
def test_lists(kind: Any, entries: st.SearchStrategy[Any]) -> None:
    @given(entries)
    def check(listed: list[Any]) -> None:
        assert kind.parse_all(memoryview(kind.pack_all(listed))) == listed

    check()


@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", [kind for kind, _ in LISTS.values()])
def test_random_lists_are_malformed_or_a_list(kind: Any) -> None:
    @given(st.binary(max_size=400))
    def check(raw: bytes) -> None:
        try:
            kind.parse_all(memoryview(raw))
        except Malformed:
            pass

    check()


@pytest.mark.hypothesis
@pytest.mark.parametrize("information_class", sorted(CLASSES))
def test_directory_entries(information_class: int) -> None:
    @given(st.lists(directory_entries, min_size=1, max_size=6), st.integers(0, 800))
    def check(entries: list[DirectoryEntry], limit: int) -> None:
        buffer = DirectoryBuffer(information_class, limit)
        taken = [entry for entry in entries if buffer.add(entry)]
        packed = buffer.pack()
        assert len(packed) <= limit
        assert buffer.count == len(taken)
        parsed = parse_entries(information_class, packed)
        assert [entry.file_name for entry in parsed] == [entry.file_name for entry in taken]
        assert [pack_entry(information_class, entry) for entry in parsed] == [
            pack_entry(information_class, entry) for entry in taken
        ]

    check()


@pytest.mark.hypothesis
@pytest.mark.parametrize("information_class", sorted(CLASSES))
def test_random_directories_are_malformed_or_entries(information_class: int) -> None:
    @given(st.binary(max_size=300))
    def check(raw: bytes) -> None:
        try:
            parse_entries(information_class, raw)
        except Malformed:
            pass

    check()


def test_sizes_of_directory_entries() -> None:
    """[MS-FSCC] 2.4: where the name begins."""
    sizes = {int(number): minimum_size(number) for number in CLASSES}
    assert sizes == {1: 64, 2: 68, 3: 94, 12: 12, 37: 104, 38: 80, 60: 88}


@given(security_descriptors)
def test_security_descriptor_round_trip(descriptor: SecurityDescriptor) -> None:
    parsed = SecurityDescriptor.parse(memoryview(descriptor.pack()))
    assert parsed.pack() == descriptor.pack()
    assert (parsed.owner, parsed.group) == (descriptor.owner, descriptor.group)
    assert (parsed.sacl, parsed.dacl) == (descriptor.sacl, descriptor.dacl)


@given(security_descriptors, st.data())
def test_hostile_security_descriptors(descriptor: SecurityDescriptor, draw: st.DataObject) -> None:
    packed = bytearray(descriptor.pack())
    for _ in range(3):
        packed[draw.draw(st.integers(0, len(packed) - 1))] = draw.draw(st.integers(0, 255))
    try:
        SecurityDescriptor.parse(memoryview(packed))
    except Malformed:
        pass


@given(sids)
def test_sid_as_text(sid: Sid) -> None:
    assert Sid.from_string(str(sid)) == sid


def test_context_lists_end() -> None:
    """Hostile links must not make a loop: a step of 0 ends the list, others must lead forward."""
    one = cc.pack_contexts([cc.CreateContext(b"QFid")])
    endless = b"\x08\0\0\0" + one[4:] * 10
    with pytest.raises(Malformed):
        cc.parse_contexts(endless)
    many = [cc.CreateContext(b"QFid")] * (cc.MAX_CONTEXTS + 1)
    with pytest.raises(Malformed):
        cc.parse_contexts(cc.pack_contexts(many))
    assert len(cc.parse_contexts(cc.pack_contexts(many[1:]))) == cc.MAX_CONTEXTS


def test_file_id_of_related_requests() -> None:
    assert FileId.at(b"\xff" * 16, 0).is_all_ones
    with pytest.raises(Malformed):
        FileId.at(b"\xff" * 16, 1)
