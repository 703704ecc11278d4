"""Further channels for a session: which addresses the server has, and binding ([MS-SMB2] 3.2.4.20.10)."""

from __future__ import annotations

import asyncio
import socket

from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed
from smbdirect.channel_facts import ChannelFacts
from smbdirect.control import Proxy, ProxyError
from smbserver.client.connection import Connection
from smbserver.client.options import Options
from smbserver.client.session import Session, SessionChannel
from smbserver.wire.errors import Malformed
from smbserver.wire.interface_info import NetworkInterfaceInfo
from smbserver.wire.ioctl import CtlCode
from smbserver.wire.status import StatusError

CONNECT_DEADLINE = 20.0
"""Seconds for a transport connection and NEGOTIATE on it."""


class NoRdma(ConnectionError):
    """No RDMA channel could be bound; the sentence tells what was tried."""


async def connect_tcp(host: str, port: int, options: Options) -> Connection:
    """A TCP connection on which NEGOTIATE is done."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_DEADLINE):
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = infos[0]
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return await _negotiated(Channel(sock, ChannelFacts.of_tcp(sock, role="client")), options)


async def connect_rdma(proxy: Proxy, address: str, port: int, options: Options) -> Connection:
    """An SMB Direct connection, made by the proxy, on which NEGOTIATE is done."""
    async with asyncio.timeout(CONNECT_DEADLINE):
        sock, facts = await proxy.connect(address, port)
        return await _negotiated(Channel(sock, facts), options)


async def _negotiated(channel: Channel, options: Options) -> Connection:
    connection = Connection(channel, options)
    try:
        await connection.negotiate()
    except BaseException:
        await connection.close("NEGOTIATE failed")
        raise
    return connection


async def interfaces(session: Session) -> list[NetworkInterfaceInfo]:
    """FSCTL_QUERY_NETWORK_INTERFACE_INFO: all addresses that the server offers."""
    async with await session.tree("IPC$") as tree:
        output = await tree.ioctl(CtlCode.FSCTL_QUERY_NETWORK_INTERFACE_INFO)
    return NetworkInterfaceInfo.parse_all(output)


async def bind_tcp(session: Session, host: str, port: int) -> SessionChannel:
    """One more TCP channel."""
    return await _bind(session, await connect_tcp(host, port, session.options))


async def bind_rdma(session: Session, proxy: Proxy, address: str, port: int) -> SessionChannel:
    """One more RDMA channel, with the session's memory registered for it."""
    return await _bind(session, await connect_rdma(proxy, address, port, session.options))


async def _bind(session: Session, connection: Connection) -> SessionChannel:
    """Memory first: from the binding on, any request may pick the channel."""
    try:
        if connection.channel.facts.transport == "rdma":
            await connection.channel.attach(session.pool)
        return await session.bind(connection)
    except BaseException:
        await connection.close("the session could not be bound")
        raise


async def discover_and_bind(
    session: Session, proxy: Proxy, port: int, count: int = 1
) -> list[SessionChannel]:
    """Binds RDMA channels to the addresses that the server offers for RDMA, the fastest first."""
    offered = await interfaces(session)
    capable = sorted((one for one in offered if one.rdma_capable), key=lambda one: -one.link_speed)
    bound: list[SessionChannel] = []
    failures: list[str] = []
    for interface in capable:
        while len(bound) < count:
            address = str(interface.address)
            try:
                bound.append(await bind_rdma(session, proxy, address, port))
            except (ProxyError, StatusError, Malformed, ChannelClosed, OSError) as error:
                failures.append(f"{address} port {port}: {str(error) or type(error).__name__}")
                break
    if not bound:
        tried = "; ".join(failures) or f"none of its {len(offered)} interfaces is RDMA capable"
        raise NoRdma(f"no RDMA channel to the server: {tried}")
    return bound
