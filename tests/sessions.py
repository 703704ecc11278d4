"""Sessions with a server of one's own, for tests that are about what happens in them."""

from __future__ import annotations

from typing import Any

from smbserver import client
from smbserver.client.connect import Rdma
from smbserver.own_server import LOOPBACK, OwnServer


async def connect(
    server: OwnServer,
    control: str | None = None,
    *,
    rdma: Rdma = True,
    rdma_channels: int = 1,
    address: str = LOOPBACK,
    **wishes: Any,
) -> client.Session:
    """On TCP; with RDMA too, as `rdma` says, where `control` is a proxy's. `wishes` are fields of client.Options."""
    return await client.connect(
        address,
        server.port,
        user=server.user,
        password=server.password,
        rdma=rdma if control is not None else False,
        rdma_port=server.rdma_port,
        rdma_channels=rdma_channels,
        control=control,
        options=client.Options(**wishes),
    )
