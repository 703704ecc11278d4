"""Why a connection ended, for engines, channels and the proxy alike."""

from __future__ import annotations

from enum import IntEnum


class CloseReason(IntEnum):
    """The numbers of a CLOSED frame (docs/channel.md), which are those of csrc/path.h."""

    NONE = 0
    """Still open; no frame carries it."""
    BY_PEER = 1
    BY_WORKER = 2
    PEER_LOST = 3
    PROTOCOL_ERROR = 4
    NEGOTIATION = 5
    TIMEOUT = 6
    REMOTE_ACCESS = 7
    WORKER_ERROR = 8
    LIMIT = 9
    SHUTDOWN = 10
