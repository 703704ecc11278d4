"""Blocks in flight: all of them, not too many at a time, and an end at the first failure."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.client.credits import UNIT, charge_for
from smbserver.client.pipeline import blocks, in_parallel


@given(st.integers(0, 1000), st.integers(1, 100))
def test_blocks_cover_the_length(length: int, size: int) -> None:
    cut = list(blocks(length, size))
    assert [start for start, _ in cut] == list(range(0, length, size))
    assert sum(part for _, part in cut) == length
    assert all(part == size for _, part in cut[:-1])


@pytest.mark.parametrize("depth", [1, 3, 50])
def test_at_most_so_many_at_a_time(depth: int) -> None:
    running, most, done = 0, 0, []

    async def work(start: int, size: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        done.append((start, size))
        running -= 1

    asyncio.run(in_parallel(work, blocks(200, 10), depth))
    assert most == min(depth, 20)
    assert sorted(done) == list(blocks(200, 10))


def test_the_first_failure_ends_all() -> None:
    started = []

    async def work(start: int, size: int) -> None:
        started.append(start)
        await asyncio.sleep(0)
        if start == 20:
            raise ValueError("block 20")

    with pytest.raises(ValueError, match="block 20"):
        asyncio.run(in_parallel(work, blocks(1000, 10), 4))
    assert max(started) < 100


@pytest.mark.parametrize(
    ("length", "charge"), [(0, 1), (1, 1), (UNIT, 1), (UNIT + 1, 2), (1 << 20, 16)]
)
def test_charge(length: int, charge: int) -> None:
    assert charge_for(length) == charge
