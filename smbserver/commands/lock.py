"""LOCK: byte ranges are taken and given back ([MS-SMB2] 3.3.5.14)."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from smbserver import locks
from smbserver.dispatch import Call, Reply
from smbserver.open import Open
from smbserver.wire.lock import LockElement, LockFlags, LockRequest, LockResponse
from smbserver.wire.negotiate import Capabilities
from smbserver.wire.status import NtStatus, StatusError

END = 1 << 64
"""One more than the last byte that can be locked."""

SEQUENCES = 64
"""Entries of Open.LockSequenceArray."""

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
    counts = _counts_sequences(call, opened, request)
    if counts and _was_done(opened, request):
        return Reply(_BODY)
    if request.locks[0].flags == LockFlags.UNLOCK:
        _unlock(opened, request.locks)
        return _done(call, opened, request, counts)
    if opened.tree.session.has_expired:
        raise StatusError(NtStatus.NETWORK_SESSION_EXPIRED)
    wanted = _check(request.locks)
    may_wait = len(wanted) == 1 and not request.locks[0].flags & LockFlags.FAIL_IMMEDIATELY
    if locks.acquire(opened, wanted):
        call.connection.service.caching.modified(opened)
        return _done(call, opened, request, counts)
    if not may_wait:
        raise StatusError(NtStatus.LOCK_NOT_GRANTED)
    if not call.connection.may_wait():
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    return _wait(call, opened, request, wanted, counts)


def _counts_sequences(call: Call, opened: Open, request: LockRequest) -> bool:
    """Whether a repeated request is told from a new one by its LockSequence ([MS-SMB2] 3.3.5.14)."""
    multi_channel = call.connection.capabilities & Capabilities.MULTI_CHANNEL
    index = request.lock_sequence_index
    return 0 < index <= SEQUENCES and (opened.durability is not None or bool(multi_channel))


def _was_done(opened: Open, request: LockRequest) -> bool:
    index = request.lock_sequence_index
    if opened.lock_sequences.get(index) == request.lock_sequence_number:
        return True
    opened.lock_sequences.pop(index, None)
    return False


def _done(call: Call, opened: Open, request: LockRequest, counts: bool) -> Reply:
    if counts:
        opened.lock_sequences[request.lock_sequence_index] = request.lock_sequence_number
    call.connection.service.durable_opens.changed(opened)
    return Reply(_BODY)


def _check(elements: Sequence[LockElement]) -> list[locks.Range]:
    for element in elements:
        if element.flags not in _KINDS:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        if element.offset + element.length > END:
            raise StatusError(NtStatus.INVALID_LOCK_RANGE)
        if len(elements) > 1 and not element.flags & LockFlags.FAIL_IMMEDIATELY:
            raise StatusError(NtStatus.INVALID_PARAMETER)
    return [locks.Range(one.offset, one.length, _KINDS[LockFlags(one.flags)]) for one in elements]


def _unlock(opened: Open, elements: Sequence[LockElement]) -> None:
    for element in elements:
        if element.flags != LockFlags.UNLOCK:
            raise StatusError(NtStatus.INVALID_PARAMETER)
        if not locks.release(opened, element.offset, element.length):
            raise StatusError(NtStatus.RANGE_NOT_LOCKED)


async def _wait(
    call: Call,
    opened: Open,
    request: LockRequest,
    wanted: Sequence[locks.Range],
    counts: bool,
) -> Reply:
    """Tries again whenever a range was given back, until it succeeds, is cancelled, or the open ends."""
    try:
        while True:
            # Also before the first attempt: a CLOSE may have been served before this task began.
            if call.session is None or opened.volatile_id not in call.session.opens:
                raise StatusError(NtStatus.RANGE_NOT_LOCKED)
            if locks.acquire(opened, wanted, wait=True):
                break
            await locks.until_changed(opened)
            locks.stop_waiting(opened, wanted[0])
    finally:
        locks.stop_waiting(opened, wanted[0])
    call.connection.service.caching.modified(opened)
    return _done(call, opened, request, counts)
