"""Several requests in flight: a long range in blocks, so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator


def blocks(length: int, size: int) -> Iterator[tuple[int, int]]:
    """Starts and sizes of the blocks that a length falls into."""
    return ((start, min(size, length - start)) for start in range(0, length, size))


async def in_parallel(
    work: Callable[[int, int], Awaitable[None]], of: Iterable[tuple[int, int]], depth: int
) -> None:
    """Runs the work for each block, at most `depth` at a time; the first failure ends all."""
    todo = list(of)
    if len(todo) <= 1:
        for start, size in todo:
            await work(start, size)
        return
    waiting = iter(todo)

    async def worker() -> None:
        for start, size in waiting:
            await work(start, size)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(depth, len(todo))):
                group.create_task(worker())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
