"""How a channel ends, and how what was asked of it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smbdirect import frames


class ChannelClosed(Exception):
    """The connection has ended. `reason` is a CloseReason, `words` a sentence."""

    def __init__(self, reason: int, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words


class TransferFailed(Exception):
    """An RDMA operation, EXPOSE or POOL was not carried out. `status` is a frames.Status."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words

    @classmethod
    def of(cls, what: str, status: int) -> TransferFailed:
        return cls(status, f"{what}: {frames.status_words(status)}")


@dataclass(slots=True)
class ChannelEnd:
    """The end of one channel, which all its parts watch for and may bring about."""

    lost: Callable[[int, str], None]
    """The connection is over: a CloseReason, and why in words."""
    settle: Callable[[], None]
    """Goes on with closing as far as what waits and what is under way allow."""
    closed: ChannelClosed | None = None
    """Why the channel has ended or is about to; None while it lives."""

    def check(self) -> None:
        if self.closed is not None:
            raise self.error()

    def error(self) -> ChannelClosed:
        """For one who waited: an exception that is raised twice would tell both stories."""
        assert self.closed is not None
        return ChannelClosed(self.closed.reason, self.closed.words)

    def fail(self, waiter: asyncio.Future[Any]) -> None:
        if not waiter.done():
            waiter.set_exception(self.error())
            waiter.exception()  # whoever awaits it sees it; nobody is not an error
