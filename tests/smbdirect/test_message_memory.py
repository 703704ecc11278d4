"""Memory of long messages: who holds a view keeps it, who let go gives it back."""

from __future__ import annotations

from smbdirect.message_memory import KEPT_MAX, MessageMemory

MIB = 1 << 20


def test_what_nobody_looks_at_is_used_again() -> None:
    memory = MessageMemory()
    first = memory.take(MIB + 112)
    assert len(first) == MIB + 112
    block = first.obj
    first.release()
    second = memory.take(MIB + 100)
    assert second.obj is block


def test_what_somebody_looks_at_is_left_alone() -> None:
    memory = MessageMemory()
    first = memory.take(MIB)
    first[:4] = b"kept"
    part = first[:4]
    first.release()
    second = memory.take(MIB)
    second[:4] = b"new!"
    assert bytes(part) == b"kept"


def test_the_block_used_last_is_used_next() -> None:
    memory = MessageMemory()
    views = [memory.take(MIB) for _ in range(3)]
    last = views[-1].obj
    del views
    assert memory.take(MIB).obj is last


def test_a_block_fits_its_message() -> None:
    memory = MessageMemory()
    memory.take(8 * MIB).release()
    assert memoryview(memory.take(MIB).obj).nbytes == MIB


def test_no_more_is_kept_than_the_limit() -> None:
    memory = MessageMemory()
    views = [memory.take(MIB) for _ in range(3 * KEPT_MAX // MIB)]
    blocks = [view.obj for view in views]
    del views
    again = [memory.take(MIB) for _ in range(3 * KEPT_MAX // MIB)]
    kept = sum(any(view.obj is block for block in blocks) for view in again)
    assert 0 < kept <= KEPT_MAX // MIB
