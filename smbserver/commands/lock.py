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
    wanted = _check(request.locks)
    may_wait = len(wanted) == 1 and not request.locks[0].flags & LockFlags.FAIL_IMMEDIATELY
    if locks.acquire(opened, wanted):
        call.connection.service.caching.modified(opened)
        return Reply(_BODY)
    if not may_wait:
        raise StatusError(NtStatus.LOCK_NOT_GRANTED)
    if not call.connection.may_wait():
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    return _wait(call, opened, wanted)


def _check(elements: Sequence[LockElement]) -> list[locks.Range]:
    for element in elements:
        if element.flags not in _KINDS:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        if element.offset + element.length > END:
            raise StatusError(NtStatus.INVALID_LOCK_RANGE)
        if len(elements) > 1 and not element.flags & LockFlags.FAIL_IMMEDIATELY:
            raise StatusError(NtStatus.INVALID_PARAMETER)
    return [locks.Range(one.offset, one.length, _KINDS[LockFlags(one.flags)]) for one in elements]


def _unlock(opened: Open, elements: Sequence[LockElement]) -> Reply:
    for element in elements:
        if element.flags != LockFlags.UNLOCK:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        if not locks.release(opened, element.offset, element.length):
            raise StatusError(NtStatus.RANGE_NOT_LOCKED)
    return Reply(_BODY)


async def _wait(call: Call, opened: Open, wanted: Sequence[locks.Range]) -> Reply:
    """Tries again whenever a range was given back, until it succeeds, is cancelled, or the open ends."""
    try:
        while not locks.acquire(opened, wanted, wait=True):
            await locks.until_changed(opened)
            locks.stop_waiting(opened, wanted[0])
            if call.session is None or opened.volatile_id not in call.session.opens:
                raise StatusError(NtStatus.RANGE_NOT_LOCKED)
    finally:
        locks.stop_waiting(opened, wanted[0])
    call.connection.service.caching.modified(opened)
    return Reply(_BODY)
