"""How READ and WRITE name the buffers for RDMA ([MS-SMB2] 2.2.19, 2.2.21: Channel)."""

from __future__ import annotations

from enum import IntEnum

from smbserver.wire.bounds import Buffer, Malformed, slice_at

DESCRIPTOR_SIZE = 16
"""Bytes of a Buffer Descriptor V1 ([MS-SMBD] 2.2.3.1)."""


class RdmaChannel(IntEnum):
    """Channel: what the channel information is, and who ends the peer's access."""

    NONE = 0x00000000
    RDMA_V1 = 0x00000001
    RDMA_V1_INVALIDATE = 0x00000002
    RDMA_TRANSFORM = 0x00000003


def channel_info_at(
    message: Buffer, channel: int, offset: int, length: int, least: int
) -> memoryview:
    """The Buffer Descriptor V1 array of a request, as it stands there; empty without RDMA."""
    if channel == RdmaChannel.NONE:
        return memoryview(b"")
    info = slice_at(message, offset, length, least, "channel information")
    if len(info) % DESCRIPTOR_SIZE:
        raise Malformed(
            f"channel information of {len(info)} bytes is no array of 16-byte descriptors"
        )
    return info
