"""Hypothesis strategies for every message and structure of the codec."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hypothesis import strategies as st

from smbserver.wire import negotiate_contexts as nc
from smbserver.wire.cancel import CancelRequest
from smbserver.wire.change_notify import ChangeNotifyRequest, ChangeNotifyResponse
from smbserver.wire.close import CloseRequest, CloseResponse
from smbserver.wire.create import CreateRequest, CreateResponse
from smbserver.wire.create_contexts import CreateContext
from smbserver.wire.directory_information import DirectoryEntry
from smbserver.wire.echo import EchoRequest, EchoResponse
from smbserver.wire.errors import ErrorResponse
from smbserver.wire.file_id import FileId
from smbserver.wire.flush import FlushRequest, FlushResponse
from smbserver.wire.header import Header
from smbserver.wire.interface_info import NetworkInterfaceInfo
from smbserver.wire.ioctl import IoctlRequest, IoctlResponse
from smbserver.wire.lock import LockElement, LockRequest, LockResponse
from smbserver.wire.logoff import LogoffRequest, LogoffResponse
from smbserver.wire.negotiate import Dialect, NegotiateRequest, NegotiateResponse
from smbserver.wire.oplock_break import (
    LeaseBreakAcknowledgment,
    LeaseBreakNotification,
    OplockBreak,
)
from smbserver.wire.query_directory import QueryDirectoryRequest, QueryDirectoryResponse
from smbserver.wire.query_info import QueryInfoRequest, QueryInfoResponse
from smbserver.wire.read import ReadRequest, ReadResponse
from smbserver.wire.security_descriptor import Ace, AceType, Acl, SecurityDescriptor, Sid
from smbserver.wire.session_setup import SessionSetupRequest, SessionSetupResponse
from smbserver.wire.set_info import SetInfoRequest, SetInfoResponse
from smbserver.wire.tree_connect import TreeConnectRequest, TreeConnectResponse
from smbserver.wire.tree_disconnect import TreeDisconnectRequest, TreeDisconnectResponse
from smbserver.wire.write import WriteRequest, WriteResponse

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
i64 = st.integers(-(1 << 63), (1 << 63) - 1)
key16 = st.binary(min_size=16, max_size=16)
data = st.binary(max_size=200)
# Any UTF-16 code units, so surrogates may stand alone; pairs are one character, as parsing makes them.
text = st.binary(max_size=40).map(
    lambda raw: raw[: len(raw) & ~1].decode("utf-16-le", "surrogatepass")
)
name = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
file_ids = st.builds(FileId, u64, u64)
descriptors = st.integers(1, 8).flatmap(
    lambda count: st.binary(min_size=16 * count, max_size=16 * count)
)

headers = st.builds(Header, u16, u32, u16, u16, u32, u32, u64, u32, u32, u64, signature=key16)

numbers = st.lists(u16, max_size=6).map(tuple)
negotiate_contexts = st.lists(
    st.one_of(
        st.builds(nc.PreauthIntegrityCapabilities, numbers, data),
        st.builds(nc.EncryptionCapabilities, numbers),
        st.builds(nc.CompressionCapabilities, numbers, u32),
        st.builds(nc.NetnameNegotiateContext, text),
        st.builds(nc.TransportCapabilities, u32),
        st.builds(nc.RdmaTransformCapabilities, numbers),
        st.builds(nc.SigningCapabilities, numbers),
        st.builds(nc.OpaqueContext, st.integers(0x200, 0xFFFF), data),
    ),
    max_size=5,
).map(tuple)
old_dialects = st.lists(st.sampled_from([0x0202, 0x0210, 0x0300, 0x0302]), max_size=5)
create_contexts = st.lists(
    st.builds(CreateContext, st.binary(min_size=4, max_size=16), data), max_size=4
).map(tuple)
times_and_sizes = (i64, i64, i64, i64, i64, i64)

MESSAGES: dict[str, st.SearchStrategy[Any]] = {
    "ErrorResponse": st.builds(ErrorResponse, data.filter(bool), u8),
    "NegotiateRequest": st.builds(
        NegotiateRequest, old_dialects.map(tuple), u16, u32, key16, client_start_time=u64
    ),
    "NegotiateRequest 3.1.1": st.builds(
        NegotiateRequest,
        old_dialects.map(lambda others: (*others, Dialect.SMB_3_1_1)),
        u16,
        u32,
        key16,
        negotiate_contexts,
    ),
    "NegotiateResponse": st.builds(
        NegotiateResponse,
        st.sampled_from([0x0202, 0x0210, 0x0300, 0x0302, 0x02FF]),
        *(u16, key16, u32, u32, u32, u32, u64, u64, data),
    ),
    "NegotiateResponse 3.1.1": st.builds(
        NegotiateResponse,
        st.just(Dialect.SMB_3_1_1),
        *(u16, key16, u32, u32, u32, u32, u64, u64, data, negotiate_contexts),
    ),
    "SessionSetupRequest": st.builds(SessionSetupRequest, data, u8, u8, u32, u64),
    "SessionSetupResponse": st.builds(SessionSetupResponse, data, u16),
    "LogoffRequest": st.just(LogoffRequest()),
    "LogoffResponse": st.just(LogoffResponse()),
    "TreeConnectRequest": st.builds(TreeConnectRequest, text, u16),
    "TreeConnectResponse": st.builds(TreeConnectResponse, u8, u32, u32, u32),
    "TreeDisconnectRequest": st.just(TreeDisconnectRequest()),
    "TreeDisconnectResponse": st.just(TreeDisconnectResponse()),
    "CreateRequest": st.builds(
        CreateRequest, text, u32, u32, u32, u32, u32, u8, u32, create_contexts, u64
    ),
    "CreateResponse": st.builds(
        CreateResponse, file_ids, u32, u8, *times_and_sizes, u32, create_contexts, u8
    ),
    "CloseRequest": st.builds(CloseRequest, file_ids, u16),
    "CloseResponse": st.builds(CloseResponse, u16, *times_and_sizes, u32),
    "FlushRequest": st.builds(FlushRequest, file_ids),
    "FlushResponse": st.just(FlushResponse()),
    "ReadRequest": st.builds(ReadRequest, file_ids, u64, u32, u32, flags=u8, padding=u8),
    "ReadRequest by RDMA": st.builds(
        ReadRequest, file_ids, u64, u32, u32, st.sampled_from([1, 2]), u32, descriptors
    ),
    "ReadResponse": st.builds(ReadResponse, data, u32, u32),
    "WriteRequest": st.builds(WriteRequest, file_ids, u64, data, flags=u32),
    "WriteRequest by RDMA": st.builds(
        WriteRequest, file_ids, u64, st.just(b""), st.sampled_from([1, 2]), u32, descriptors, u32
    ),
    "WriteResponse": st.builds(WriteResponse, u32),
    "LockRequest": st.builds(
        LockRequest,
        file_ids,
        st.lists(st.builds(LockElement, u64, u64, u32), max_size=5).map(tuple),
        st.integers(0, 0xF),
        st.integers(0, (1 << 28) - 1),
    ),
    "LockResponse": st.just(LockResponse()),
    "EchoRequest": st.just(EchoRequest()),
    "EchoResponse": st.just(EchoResponse()),
    "CancelRequest": st.just(CancelRequest()),
    "IoctlRequest": st.builds(IoctlRequest, u32, file_ids, data, u32, u32, u32),
    "IoctlResponse": st.builds(IoctlResponse, u32, file_ids, data, data, u32),
    "QueryDirectoryRequest": st.builds(QueryDirectoryRequest, u8, file_ids, text, u32, u8, u32),
    "QueryDirectoryResponse": st.builds(QueryDirectoryResponse, data),
    "ChangeNotifyRequest": st.builds(ChangeNotifyRequest, file_ids, u32, u32, u16),
    "ChangeNotifyResponse": st.builds(ChangeNotifyResponse, data),
    "QueryInfoRequest": st.builds(QueryInfoRequest, u8, u8, file_ids, u32, u32, u32, data),
    "QueryInfoResponse": st.builds(QueryInfoResponse, data),
    "SetInfoRequest": st.builds(SetInfoRequest, u8, u8, file_ids, data, u32),
    "SetInfoResponse": st.just(SetInfoResponse()),
    "OplockBreak": st.builds(OplockBreak, file_ids, u8),
    "LeaseBreakNotification": st.builds(LeaseBreakNotification, key16, u32, u32, u32, u16),
    "LeaseBreakAcknowledgment": st.builds(LeaseBreakAcknowledgment, key16, u32),
}
"""Each parses from a whole message and packs into a body."""

sids = st.builds(Sid, st.integers(0, (1 << 48) - 1), st.lists(u32, max_size=15).map(tuple))
aces = st.one_of(
    st.builds(Ace, st.sampled_from(list(AceType)), u8, u32, sids),
    st.builds(
        Ace,
        st.sampled_from([0x05, 0x09, 0xFE]),
        u8,
        opaque=st.binary(max_size=24).map(lambda raw: raw[: len(raw) & ~3]),
    ),
)
acls = st.builds(Acl, st.lists(aces, max_size=4).map(tuple), st.sampled_from([2, 4]))
security_descriptors = st.builds(
    SecurityDescriptor, *(st.none() | sids, st.none() | sids, st.none() | acls, st.none() | acls)
)

interfaces = st.lists(
    st.builds(
        NetworkInterfaceInfo,
        u32,
        st.one_of(
            st.integers(0, (1 << 32) - 1).map(IPv4Address),
            st.integers(0, (1 << 128) - 1).map(IPv6Address),
        ),
        u32,
        u64,
    ),
    max_size=4,
)

directory_entries = st.builds(DirectoryEntry, name, *times_and_sizes, u32, file_index=u32)
