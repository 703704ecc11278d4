"""What READ and WRITE must check before payload moves, inline or by RDMA, and the buffers of inline READs."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from smbserver.wire.negotiate import Dialect
from smbserver.wire.rdma_channel import RdmaChannel
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.connection import Connection

Buffer = bytes | bytearray | memoryview

MAX_OFFSET = 0x7FFFFFFFFFFFFFFF
"""The end of the longest file: offsets are signed on disk."""

MAX_WRITTEN = 0xFFFFFFF0000
"""The end of the longest file that can be written: what NTFS allows with its usual clusters, and Samba."""

LOOP_MAX = 1 << 20
"""Bytes up to which cached data is copied in the loop: the round trip to a thread costs as much CPU as that copy."""

MAPPED_MIN = 256 << 10
"""Bytes from which an inline READ is sent from the page cache: less does not pay for a mapping that is used once."""

REUSED_MIN = 64 << 10
"""Bytes from which the memory of inline READs is kept: fresh memory costs a page fault per 4 KiB."""

SENT_MIN = 64 << 10
"""Bytes from which a READ's data is not copied into its reply."""

KEPT_MAX = 32 << 20
"""Bytes of idle buffers that are kept; eight READs of 4 MiB."""

_DESCRIPTOR = struct.Struct("<QII")

_kept: dict[int, list[bytearray]] = {}
_kept_bytes = 0


def check_range(offset: int, length: int, limit: int) -> None:
    """Refuses a length above what was negotiated, and a range beyond the end of the longest file."""
    if length > limit or offset + length > MAX_OFFSET:
        raise StatusError(NtStatus.INVALID_PARAMETER)


def check_channel(connection: Connection, channel: int, descriptors: Buffer, length: int) -> None:
    """Refuses RDMA that the dialect or the transport has not, or whose buffers are too small for the payload.

    [MS-SMB2] 3.3.5.12, 3.3.5.13: RDMA_V1 from 3.0 on, RDMA_V1_INVALIDATE from 3.0.2 on.
    """
    dialect = connection.dialect
    least = Dialect.SMB_3_0 if channel == RdmaChannel.RDMA_V1 else Dialect.SMB_3_0_2
    if (
        channel not in (RdmaChannel.RDMA_V1, RdmaChannel.RDMA_V1_INVALIDATE)
        or connection.channel.facts.transport != "rdma"
        or dialect is None
        or dialect < least
        or not descriptors
    ):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if sum(size for _, _, size in _DESCRIPTOR.iter_unpack(descriptors)) < length:
        raise StatusError(NtStatus.INVALID_PARAMETER)


def take_buffer(length: int) -> bytearray:
    """Memory for at least `length` bytes, used before if possible."""
    global _kept_bytes
    size = 1 << (length - 1).bit_length()
    buffers = _kept.get(size)
    if buffers:
        _kept_bytes -= size
        return buffers.pop()
    return bytearray(size)


def keep_buffer(buffer: bytearray) -> None:
    """Takes memory back whose content nobody needs any more."""
    global _kept_bytes
    size = len(buffer)
    if _kept_bytes + size <= KEPT_MAX:
        _kept_bytes += size
        _kept.setdefault(size, []).append(buffer)
