"""Threads for file I/O that may wait for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MAX_THREADS = 16
"""Waiting reads, writes and flushes of one worker; a queue depth that keeps a disk busy. They start on demand."""

_T = TypeVar("_T")

_threads = ThreadPoolExecutor(MAX_THREADS, "file")


def in_thread(call: Callable[..., _T], *arguments: object) -> asyncio.Future[_T]:
    """Runs a blocking call beside the loop."""
    return asyncio.get_running_loop().run_in_executor(_threads, call, *arguments)
