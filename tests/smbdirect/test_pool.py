"""The pool: sealed, page by page, nothing given out twice, first come first served."""

from __future__ import annotations

import asyncio
import fcntl
import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbdirect.pool import PAGE, RECENT_MAX, Pool, PoolExhausted, PoolRange
from tests.effort import tries


def test_the_file_can_neither_shrink_nor_grow_nor_lose_its_seals() -> None:
    pool = Pool(10 * PAGE + 1)
    assert pool.size == 11 * PAGE
    for size in (pool.size - PAGE, pool.size + PAGE):
        with pytest.raises(PermissionError):
            os.ftruncate(pool.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(pool.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert fcntl.fcntl(pool.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    pool.close()


def test_what_is_written_to_a_range_stands_in_the_file() -> None:
    pool = Pool(4 * PAGE)
    pool.allocate(PAGE)
    with pool.allocate(100) as piece:
        assert len(piece.view) == piece.length == 100
        piece.view[:] = b"x" * 100
        assert os.pread(pool.fd, 101, piece.offset) == b"x" * 100 + b"\0"
    pool.close()


def test_the_range_that_came_back_last_is_given_out_first() -> None:
    pool = Pool(8 * PAGE)
    pieces = [pool.allocate(PAGE) for _ in range(4)]
    pieces[1].release()
    pieces[2].release()
    assert pool.allocate(PAGE).offset == pieces[2].offset
    assert pool.allocate(PAGE).offset == pieces[1].offset
    pool.close()


def test_ranges_that_came_back_are_merged_when_a_longer_one_is_wanted() -> None:
    pool = Pool((RECENT_MAX + 8) * PAGE)
    pieces = [pool.allocate(PAGE) for _ in range(RECENT_MAX + 8)]
    with pytest.raises(PoolExhausted, match=f"{PAGE} bytes were asked for; 0 of"):
        pool.allocate(1)
    for piece in pieces:
        piece.release()
    assert pool.allocate(pool.size).offset == 0
    pool.close()


def test_releasing_twice_is_releasing_once() -> None:
    pool = Pool(2 * PAGE)
    piece = pool.allocate(PAGE)
    piece.release()
    piece.release()
    assert pool.used == 0
    assert {pool.allocate(PAGE).offset, pool.allocate(PAGE).offset} == {0, PAGE}
    pool.close()


def test_a_range_under_transfer_comes_back_when_the_transfer_ends() -> None:
    pool = Pool(PAGE)
    with pool.allocate(PAGE) as piece:
        piece.begin_transfer()
        piece.begin_transfer()
    piece.end_transfer()
    with pytest.raises(PoolExhausted):
        pool.allocate(PAGE)
    piece.end_transfer()
    assert pool.allocate(PAGE).offset == 0
    pool.close()


@pytest.mark.parametrize("length", [0, -1])
def test_lengths_are_positive(length: int) -> None:
    with pytest.raises(ValueError, match="asked for"):
        Pool(length)
    pool = Pool(PAGE)
    with pytest.raises(ValueError, match="asked for"):
        pool.allocate(length)
    pool.close()


STEPS = st.lists(st.tuples(st.booleans(), st.integers(1, 6 * PAGE), st.integers(0, 100)))


@tries(60)
@given(STEPS)
def test_ranges_never_overlap_and_nothing_is_lost(steps: list[tuple[bool, int, int]]) -> None:
    pool = Pool(32 * PAGE)
    held: list[PoolRange] = []
    for take, length, which in steps:
        if take:
            try:
                held.append(pool.allocate(length))
            except PoolExhausted:
                assert pool.used + length > pool.size // 2 or len(held) > 1
        elif held:
            held.pop(which % len(held)).release()
        ends = sorted((piece.offset, piece.offset + piece.size) for piece in held)
        assert all(end <= start for (_, end), (start, _) in pairwise(ends))
        assert all(start >= 0 and end <= pool.size for start, end in ends)
        assert pool.used == sum(piece.size for piece in held)
    for piece in held:
        piece.release()
    assert pool.allocate(pool.size).offset == 0
    pool.close()


def test_who_waits_is_served_in_order_and_nobody_overtakes() -> None:
    async def story() -> None:
        pool = Pool(2 * PAGE)
        whole = pool.allocate(2 * PAGE)
        order: list[str] = []

        async def wait(name: str, length: int) -> PoolRange:
            piece = await pool.acquire(length)
            order.append(name)
            return piece

        large = asyncio.create_task(wait("large", 2 * PAGE))
        small = asyncio.create_task(wait("small", PAGE))
        await asyncio.sleep(0)
        whole.release()
        with pytest.raises(PoolExhausted, match="others wait"):
            pool.allocate(PAGE)
        (await large).release()
        (await small).release()
        assert order == ["large", "small"]
        pool.close()

    asyncio.run(story())


def test_a_waiter_that_gives_up_leaves_its_place_and_its_memory() -> None:
    async def story() -> None:
        pool = Pool(2 * PAGE)
        piece = pool.allocate(PAGE)
        first = asyncio.create_task(pool.acquire(2 * PAGE))
        second = asyncio.create_task(pool.acquire(PAGE))
        await asyncio.sleep(0)
        first.cancel()
        (await second).release()
        third = asyncio.create_task(pool.acquire(2 * PAGE))
        await asyncio.sleep(0)
        piece.release()  # third has its range now, and is cancelled before it knows
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
        assert pool.used == 0
        pool.close()

    asyncio.run(story())


def test_closing_ends_the_waiting_and_keeps_views_alive() -> None:
    async def story() -> None:
        pool = Pool(PAGE)
        piece = pool.allocate(PAGE)
        waiter = asyncio.create_task(pool.acquire(PAGE))
        await asyncio.sleep(0)
        pool.close()
        pool.close()
        with pytest.raises(PoolExhausted, match="closed"):
            await waiter
        piece.view[0] = 7
        piece.release()
        with pytest.raises(PoolExhausted, match="closed"):
            pool.allocate(1)
        with pytest.raises(PoolExhausted, match="whole pool"):
            await pool.acquire(2 * PAGE)

    asyncio.run(story())
