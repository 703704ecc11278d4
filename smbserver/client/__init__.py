"""An SMB 3 client on asyncio: TCP, RDMA channels, signing, encryption, pipelined READ and WRITE.

    async with await connect("server", user="...", password="...", rdma=True) as session:
        tree = await session.tree("share")
        async with await tree.create("name") as file:
            await file.write(0, data)
            assert await file.read(0, len(data)) == data
        print(session.statistics())

Tests, self-check and benchmark use it; below the calls that mean files, `Session.send` takes any
header and body, and `Connection.channel.send` any bytes at all.
"""

from smbserver.client.connect import connect
from smbserver.client.connection import BadSignature, Connection, Response
from smbserver.client.durable import DurableOpen, create_durable, renew
from smbserver.client.multichannel import NoRdma, bind_rdma, bind_tcp, interfaces
from smbserver.client.open import Open
from smbserver.client.options import Options
from smbserver.client.session import Session, SessionChannel
from smbserver.client.statistics import ClientStatistics
from smbserver.client.tree import Tree

__all__ = [
    "BadSignature",
    "ClientStatistics",
    "Connection",
    "DurableOpen",
    "NoRdma",
    "Open",
    "Options",
    "Response",
    "Session",
    "SessionChannel",
    "Tree",
    "bind_rdma",
    "bind_tcp",
    "connect",
    "create_durable",
    "interfaces",
    "renew",
]
