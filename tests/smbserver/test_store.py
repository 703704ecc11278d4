from __future__ import annotations

from smbserver.store import SESSION_BITS, Store


def test_session_ids_are_unique_across_workers() -> None:
    one, other = Store(1), Store(2)
    ids = [store.session_id() for store in (one, other) for _ in range(1000)]
    assert len(set(ids)) == len(ids)
    assert all(0 < number < 1 << 32 for number in ids)


def test_numbers_begin_again_and_are_never_zero() -> None:
    store = Store(4096)
    store._next = (1 << SESSION_BITS) - 2
    assert [store.session_id() for _ in range(3)] == [(1 << SESSION_BITS) - 1, 1, 2]
