"""What a reply places at the peer before it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smbdirect.outgoing import Buffer
from smbdirect.pool import PoolRange

Done = Callable[[int, int], None]
"""Called at the end of a transfer with its frames.Status and the bytes moved."""


@dataclass(frozen=True, slots=True)
class RdmaWrite:
    """A pool range that goes to the peer's buffers, before the message that it is sent with."""

    piece: PoolRange
    length: int
    descriptors: Buffer
    """Buffer Descriptors V1 as they stand in the SMB2 request ([MS-SMBD] 2.2.3.1)."""
    done: Done | None = None
    """The range is the worker's again then."""
