"""What went through a channel."""

from __future__ import annotations

import operator
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Messages and bytes since the start; inline is what travelled inside messages."""

    bytes_inline_sent: int
    bytes_inline_received: int
    bytes_rdma_written: int
    bytes_rdma_read: int
    messages_sent: int
    messages_received: int

    def __add__(self, other: ChannelStatistics) -> ChannelStatistics:
        return ChannelStatistics(*map(operator.add, astuple(self), astuple(other)))
