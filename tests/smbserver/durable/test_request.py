"""What a CREATE says of durability, and what it must not say at once."""

from __future__ import annotations

import pytest

from smbserver.durable.request import DurabilityRequest
from smbserver.wire import create_contexts as cc
from smbserver.wire.create_contexts import CreateContext, DurableHandleFlags
from smbserver.wire.errors import Malformed
from smbserver.wire.file_id import FileId
from smbserver.wire.status import NtStatus, StatusError

GUID = b"g" * 16
DHNQ = CreateContext(cc.DURABLE_HANDLE_REQUEST, bytes(16))
DHNC = CreateContext(cc.DURABLE_HANDLE_RECONNECT, cc.DurableHandleReconnect(FileId(7, 8)).pack())
DH2C = CreateContext(
    cc.DURABLE_HANDLE_RECONNECT_V2, cc.DurableHandleReconnectV2(FileId(7, 8), GUID, 2).pack()
)
SECURITY = CreateContext(cc.SECURITY_DESCRIPTOR, bytes(20))
ID = CreateContext(cc.QUERY_ON_DISK_ID)


def dh2q(milliseconds: int, flags: int = 0) -> CreateContext:
    asked = cc.DurableHandleRequestV2(milliseconds, flags, GUID)
    return CreateContext(cc.DURABLE_HANDLE_REQUEST_V2, asked.pack())


DH2Q = dh2q(0)


def test_nothing_is_asked() -> None:
    asked = DurabilityRequest.of((SECURITY, ID))
    assert not asked.version
    assert not asked.reconnect_version


@pytest.mark.parametrize(
    ("milliseconds", "granted"), [(0, 60.0), (1, 0.001), (7000, 7.0), (0xFFFFFFFF, 300.0)]
)
def test_the_time_is_bounded(milliseconds: int, granted: float) -> None:
    asked = DurabilityRequest.of((dh2q(milliseconds, DurableHandleFlags.PERSISTENT),))
    assert (asked.version, asked.timeout, asked.create_guid) == (2, granted, GUID)
    assert asked.wants_persistent
    assert DurabilityRequest.of((DHNQ,)).timeout == 16 * 60


def test_reconnects() -> None:
    one = DurabilityRequest.of((DHNC, DHNQ))
    assert (one.reconnect, one.reconnect_version, one.version) == (7, 1, 0)
    two = DurabilityRequest.of((ID, DH2C))
    assert (two.reconnect, two.reconnect_version, two.create_guid) == (7, 2, GUID)
    assert two.wants_persistent


@pytest.mark.parametrize(
    "found", [(DHNQ, DH2Q), (DHNC, DH2C), (DHNC, DH2Q), (DH2C, DHNQ), (DH2Q, DH2C)]
)
def test_what_cannot_be_together(found: tuple[CreateContext, ...]) -> None:
    with pytest.raises(StatusError) as refused:
        DurabilityRequest.of(found)
    assert refused.value.status == NtStatus.INVALID_PARAMETER


@pytest.mark.parametrize("reconnect", [DHNC, DH2C])
def test_a_reconnect_brings_nothing_else(reconnect: CreateContext) -> None:
    with pytest.raises(StatusError) as refused:
        DurabilityRequest.of((reconnect, SECURITY))
    assert refused.value.status == NtStatus.OBJECT_NAME_NOT_FOUND


@pytest.mark.parametrize("whole", [DHNQ, DHNC, DH2Q, DH2C])
def test_lengths(whole: CreateContext) -> None:
    for data in (bytes(whole.data)[:-1], bytes(whole.data) + b"\0", b""):
        with pytest.raises(Malformed):
            DurabilityRequest.of((CreateContext(whole.name, data),))
