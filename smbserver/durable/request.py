"""What a CREATE says of durability ([MS-SMB2] 3.3.5.9.6, 3.3.5.9.7, 3.3.5.9.10, 3.3.5.9.12)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from smbserver.wire import create_contexts as contexts
from smbserver.wire.create_contexts import CreateContext, DurableHandleFlags, find_context
from smbserver.wire.status import NtStatus, StatusError

V1_TIMEOUT = 16 * 60.0
"""Seconds that a durable open of version 1 waits; what Windows and Samba give."""

V2_TIMEOUT = 60.0
"""Seconds where the client names none."""

MAX_TIMEOUT = 300.0
"""Seconds at most, whatever the client names."""

NO_GUID = bytes(16)

_WITH_RECONNECT = (
    contexts.REQUEST_LEASE,
    contexts.DURABLE_HANDLE_REQUEST,
    contexts.QUERY_MAXIMAL_ACCESS,
    contexts.QUERY_ON_DISK_ID,
)
"""What may stand beside a reconnect: the lease that it names, and questions. Linux sends QFid with every CREATE."""


@dataclass(frozen=True, slots=True)
class DurabilityRequest:
    """The durable handle contexts of one CREATE."""

    version: int = 0
    """Of the durability asked for; 0: none."""
    timeout: float = 0.0
    """Seconds to wait for the client, as they will be granted."""
    wants_persistent: bool = False
    create_guid: bytes = NO_GUID
    app_instance_id: bytes = b""
    reconnect: int = 0
    """The persistent id of the open to take up again."""
    reconnect_version: int = 0
    """0: this is no reconnect."""

    @property
    def has_create_guid(self) -> bool:
        """Whether this CREATE can be told from others and be replayed."""
        return self.version == 2

    @classmethod
    def of(cls, found: Iterable[CreateContext]) -> DurabilityRequest:
        """Refuses what cannot be together, or is of the wrong length."""
        present = {context.name for context in found}
        if len(present & _DURABLE) > 1 and present & _DURABLE != _V1_AGAIN:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        reconnects = present & _RECONNECTS
        if reconnects and present - reconnects - set(_WITH_RECONNECT):
            raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)
        return _parse(found)


_RECONNECTS = {contexts.DURABLE_HANDLE_RECONNECT, contexts.DURABLE_HANDLE_RECONNECT_V2}
_V1_AGAIN = {contexts.DURABLE_HANDLE_RECONNECT, contexts.DURABLE_HANDLE_REQUEST}
_DURABLE = _RECONNECTS | {contexts.DURABLE_HANDLE_REQUEST, contexts.DURABLE_HANDLE_REQUEST_V2}


def _parse(found: Iterable[CreateContext]) -> DurabilityRequest:
    v1_again = find_context(found, contexts.DURABLE_HANDLE_RECONNECT)
    if v1_again is not None:
        file_id = contexts.DurableHandleReconnect.parse(v1_again.data).file_id
        return DurabilityRequest(reconnect=file_id.persistent, reconnect_version=1)
    v2_again = find_context(found, contexts.DURABLE_HANDLE_RECONNECT_V2)
    if v2_again is not None:
        again = contexts.DurableHandleReconnectV2.parse(v2_again.data)
        return DurabilityRequest(
            wants_persistent=bool(again.flags & DurableHandleFlags.PERSISTENT),
            create_guid=bytes(again.create_guid),
            reconnect=again.file_id.persistent,
            reconnect_version=2,
        )
    v2 = find_context(found, contexts.DURABLE_HANDLE_REQUEST_V2)
    if v2 is not None:
        asked = contexts.DurableHandleRequestV2.parse(v2.data)
        return DurabilityRequest(
            version=2,
            timeout=min(asked.timeout / 1000, MAX_TIMEOUT) or V2_TIMEOUT,
            wants_persistent=bool(asked.flags & DurableHandleFlags.PERSISTENT),
            create_guid=bytes(asked.create_guid),
            app_instance_id=_app_instance(found),
        )
    v1 = find_context(found, contexts.DURABLE_HANDLE_REQUEST)
    if v1 is not None:
        contexts.DurableHandleRequest.parse(v1.data)
        return DurabilityRequest(version=1, timeout=V1_TIMEOUT)
    return DurabilityRequest()


def _app_instance(found: Iterable[CreateContext]) -> bytes:
    context = find_context(found, contexts.APP_INSTANCE_ID)
    return b"" if context is None else contexts.AppInstanceId.parse(context.data).app_instance_id
