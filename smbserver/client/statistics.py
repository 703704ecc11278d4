"""What a client's payload went through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """Payload of READ and WRITE since the session began; bytes."""

    read_inline: int
    read_by_rdma: int
    """Placed by the server's RDMA Writes."""
    written_inline: int
    written_by_rdma: int
    """Fetched by the server's RDMA Reads."""
    requests_inline: int
    requests_by_rdma: int
    requests_repeated: int
    """Sent again on another channel, because theirs had ended."""

    @property
    def inline(self) -> int:
        return self.read_inline + self.written_inline

    @property
    def by_rdma(self) -> int:
        return self.read_by_rdma + self.written_by_rdma


class PayloadCounters:
    """The running counts behind `ClientStatistics`."""

    __slots__ = ClientStatistics.__slots__

    def __init__(self) -> None:
        self.read_inline = self.read_by_rdma = 0
        self.written_inline = self.written_by_rdma = 0
        self.requests_inline = self.requests_by_rdma = self.requests_repeated = 0

    def snapshot(self) -> ClientStatistics:
        return ClientStatistics(*(getattr(self, name) for name in self.__slots__))
