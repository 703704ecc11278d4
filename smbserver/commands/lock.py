"""LOCK: byte ranges are taken and given back ([MS-SMB2] 3.3.5.14)."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from smbserver import locks
from smbserver.dispatch import Call, Reply
from smbserver.open import Open
from smbserver.wire.lock import LockElement, LockFlags, LockRequest, LockResponse
from smbserver.wire.status import NtStatus, StatusError

END = 1 << 64
"""One more than the last byte that can be locked."""

_KINDS = {
    LockFlags.SHARED_LOCK: False,
    LockFlags.EXCLUSIVE_LOCK: True,
    LockFlags.SHARED_LOCK | LockFlags.FAIL_IMMEDIATELY: False,
    LockFlags.EXCLUSIVE_LOCK | LockFlags.FAIL_IMMEDIATELY: True,
}
"""Flags that lock: whether exclusively."""

_BODY = LockResponse().pack()


def serve(call: Call) -> Reply | Awaitable[Reply]:
    """Unlock all, or lock all or none; a single lock may wait for its turn."""
    request = LockRequest.parse(call.message)
    opened = call.open
    assert opened is not None
    if not request.locks:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if opened.is_directory:
        raise StatusError(NtStatus.INVALID_DEVICE_REQUEST)
    if request.locks[0].flags == LockFlags.UNLOCK:
        return _unlock(opened, request.locks)
    _check(request.locks)
    if _take(opened, request.locks):
        return Reply(_BODY)
    if len(request.locks) > 1 or request.locks[0].flags & LockFlags.FAIL_IMMEDIATELY:
        raise StatusError(NtStatus.LOCK_NOT_GRANTED)
    if not call.connection.may_wait():
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    return _wait(call, opened, request.locks)


def _check(elements: Sequence[LockElement]) -> None:
    for element in elements:
        if element.flags not in _KINDS:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        if element.offset + element.length > END:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        if len(elements) > 1 and not element.flags & LockFlags.FAIL_IMMEDIATELY:
            raise StatusError(NtStatus.INVALID_PARAMETER)


def _unlock(opened: Open, elements: Sequence[LockElement]) -> Reply:
    for element in elements:
        if element.flags != LockFlags.UNLOCK:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        if not locks.release(opened, element.offset, element.length):
            raise StatusError(NtStatus.RANGE_NOT_LOCKED)
    return Reply(_BODY)


def _take(opened: Open, elements: Sequence[LockElement]) -> bool:
    taken: list[LockElement] = []
    for element in elements:
        exclusive = _KINDS[LockFlags(element.flags)]
        if not locks.acquire(opened, element.offset, element.length, exclusive):
            for one in taken:
                locks.release(opened, one.offset, one.length)
            return False
        taken.append(element)
    return True


async def _wait(call: Call, opened: Open, elements: Sequence[LockElement]) -> Reply:
    while True:
        await locks.until_changed(opened)
        session = call.session
        if session is None or opened.volatile_id not in session.opens:
            raise StatusError(NtStatus.RANGE_NOT_LOCKED)
        if _take(opened, elements):
            return Reply(_BODY)
