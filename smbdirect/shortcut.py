"""A way past the channel's callbacks, for frames that come often and ask for little."""

from __future__ import annotations

from typing import Protocol

from smbdirect.channel_statistics import ChannelStatistics


class Shortcut(Protocol):
    """Answers some frames by itself, without a call for each; what they say is its own affair.

    It sees every frame before `on_message` or the channel does, in order, and leaves what it does not want.
    """

    replies: memoryview
    """What the last `serve` has to send. Used again by the next."""
    frames: int
    """How many frames the last `serve` took."""

    @property
    def in_flight(self) -> int:
        """RDMA operations of its own whose DONE has not come."""

    def serve(self, staging: bytearray, start: int, end: int) -> int:
        """Takes whole frames of staging[start:end], from the first on; how many bytes they were."""

    def statistics(self) -> ChannelStatistics:
        """Of what it took and sent."""

    def end(self) -> None:
        """The channel has ended; nothing more comes."""
