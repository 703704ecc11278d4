"""A client's look at a server of one's own: does payload really move by RDMA?

The way of it:
  1. a session on TCP, with user and password;
  2. the server is asked for its interfaces, an RDMA channel is bound to the session;
  3. PAYLOAD bytes are written and read back, and their digests compared;
  4. what moved by RDMA is counted on both sides: the client's counters, the server's status.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import secrets
from collections.abc import Mapping
from typing import Any

from smbdirect.channel_end import ChannelClosed
from smbdirect.control import ProxyError, ProxyUnavailable
from smbserver.client import NoRdma, Open, Session, connect
from smbserver.own_server import LOOPBACK, CheckFailed, OwnServer, running_proxy
from smbserver.wire.status import StatusError

PAYLOAD = 64 << 20
"""Bytes written, and read back."""
DEADLINE = 45.0
"""Seconds for all of it; it takes about one."""
MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What the client and the server have to say about one session."""

    dialect: str
    tcp_session: bool
    rdma_channels: int
    payload_bytes: int
    """Written and read, together."""
    bytes_placed_by_rdma: int
    """As the server has counted; the client's count is the same, or the check fails."""
    bytes_inline: int
    """Payload that travelled inside SMB2 messages."""
    digests_equal: bool

    def lines(self) -> list[str]:
        """For people."""
        moved = self.payload_bytes // MIB
        return [
            f"session on TCP, dialect {self.dialect}; {self.rdma_channels} RDMA channel bound to it",
            f"{moved} MiB of payload written and read back, digests equal",
            f"{self.bytes_placed_by_rdma // MIB} MiB placed by RDMA, counted by client and server;"
            f" {self.bytes_inline} bytes inline",
        ]

    def to_json(self) -> dict[str, Any]:
        facts = dataclasses.asdict(self)
        del facts["dialect"]
        return facts


def check(served: OwnServer) -> Seen:
    """What was seen, if all is well; CheckFailed otherwise. The client has a proxy of its own."""
    with running_proxy(served.folder / "client") as proxy:
        return asyncio.run(_check(served, proxy.control))


async def _check(served: OwnServer, control: str) -> Seen:
    try:
        async with asyncio.timeout(DEADLINE):
            session = await connect(
                LOOPBACK,
                served.port,
                user=served.user,
                password=served.password,
                rdma=True,
                rdma_port=served.rdma_port,
                control=control,
            )
            async with session:
                return await _look(session, served)
    except TimeoutError:
        raise CheckFailed(f"the check did not end within {DEADLINE:.0f} s") from None
    except (NoRdma, ProxyError, ProxyUnavailable, StatusError, ChannelClosed) as error:
        raise CheckFailed(str(error) or type(error).__name__) from error


async def _look(session: Session, served: OwnServer) -> Seen:
    digests_equal = await _write_and_read(session, served.share)
    status = await asyncio.to_thread(served.status)
    told = _session_of(status, session.id)
    transports = [channel["transport"] for channel in told["channels"]]
    placed = sum(channel["bytes_placed_by_rdma"] for channel in told["channels"])
    counted = session.statistics()
    seen = Seen(
        dialect=told["dialect"],
        tcp_session="tcp" in transports,
        rdma_channels=transports.count("rdma"),
        payload_bytes=2 * PAYLOAD,
        bytes_placed_by_rdma=placed,
        bytes_inline=counted.inline,
        digests_equal=digests_equal,
    )
    _judge(seen, counted.by_rdma)
    return seen


def _session_of(status: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    for told in status.get("sessions", ()):
        if int(told["session"], 16) == number:
            return dict(told)
    raise CheckFailed(f"the server's status does not know session 0x{number:x}")


def _judge(seen: Seen, counted_by_client: int) -> None:
    if not seen.tcp_session:
        raise CheckFailed("the session has no TCP channel")
    if not seen.rdma_channels:
        raise CheckFailed("the session has no RDMA channel")
    if not seen.digests_equal:
        raise CheckFailed("what was read back differs from what was written")
    for who, count in (
        ("server", seen.bytes_placed_by_rdma),
        ("client", counted_by_client),
    ):
        if count != seen.payload_bytes:
            raise CheckFailed(
                f"{seen.payload_bytes} bytes of payload, but by the {who}'s count {count} by RDMA"
            )


async def _write_and_read(session: Session, share: str) -> bool:
    """PAYLOAD random bytes to a file of their own and back."""
    data = os.urandom(PAYLOAD)
    name = f".selfcheck-{secrets.token_hex(8)}"
    async with await session.tree(share) as tree:
        try:
            async with await tree.create(name) as file:
                return await _same(file, data)
        finally:
            await tree.delete(name)


async def _same(file: Open, data: bytes) -> bool:
    await file.write(0, data)
    back = await file.read(0, len(data))
    return hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
