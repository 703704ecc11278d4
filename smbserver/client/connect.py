"""From a host's name to a session: connect, authenticate, bind RDMA channels."""

from __future__ import annotations

from typing import Literal

from smbdirect.control import Proxy
from smbserver.client.connection import Connection
from smbserver.client.multichannel import connect_rdma, connect_tcp, discover_and_bind
from smbserver.client.options import Options
from smbserver.client.own_proxy import OwnProxy
from smbserver.client.session import Session
from smbserver.client.session_setup import Credentials

SMB_PORT = 445
RDMA_PORT = 5445
"""SMB Direct over iWARP ([MS-SMBD] 1.9); over InfiniBand and RoCE it is 445."""

Rdma = bool | Literal["only"]
"""True: begin on TCP, then bind RDMA channels. "only": begin on RDMA, as Linux does."""


async def connect(
    host: str,
    port: int = SMB_PORT,
    *,
    user: str,
    password: str,
    rdma: Rdma = False,
    rdma_port: int = RDMA_PORT,
    rdma_channels: int = 1,
    control: str | None = None,
    options: Options | None = None,
) -> Session:
    """A session. `control` is the control socket of a proxy; without it a proxy of our own is started."""
    chosen = options or Options()
    credentials = Credentials(user, password, host)
    own, proxy = await _open_proxy(control) if rdma else (None, None)
    try:
        if proxy is None or rdma != "only":
            connection = await connect_tcp(host, port, chosen)
        else:
            connection = await connect_rdma(proxy, host, rdma_port, chosen)
        session = await _set_up(connection, credentials)
    except BaseException:
        await _close_proxy(own, proxy)
        raise
    session.proxy, session.own_proxy = proxy, own
    if proxy is not None and rdma != "only":
        try:
            await discover_and_bind(session, proxy, rdma_port, rdma_channels)
        except BaseException:
            await session.close()
            raise
    return session


async def _set_up(connection: Connection, credentials: Credentials) -> Session:
    try:
        session = Session(connection, credentials)
        await session.set_up(connection)
        if connection.channel.facts.transport == "rdma":
            await connection.channel.attach(session.pool)
    except BaseException:
        await connection.close("the session could not be set up")
        raise
    return session


async def _close_proxy(own: OwnProxy | None, proxy: Proxy | None) -> None:
    if proxy is not None:
        await proxy.close()
    if own is not None:
        await own.stop()


async def _open_proxy(control: str | None) -> tuple[OwnProxy | None, Proxy]:
    if control is not None:
        return None, await Proxy.open(control)
    own = await OwnProxy.start()
    return own, own.proxy
