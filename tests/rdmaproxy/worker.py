"""A worker that moves memory by RDMA for ever, to be killed: `python worker.py CONTROL`."""

from __future__ import annotations

import asyncio
import sys

from smbdirect.channel import Channel
from smbdirect.control import Proxy
from smbdirect.frames import Access
from smbdirect.pool import Pool

SIZE = 1 << 20
DEPTH = 8


async def main(control: str) -> None:
    proxy = await Proxy.open(control)
    listener = await proxy.listen("127.0.0.1", 0)
    (client_end, client_facts), (server_end, server_facts) = await asyncio.gather(
        proxy.connect("127.0.0.1", listener.port), listener.accept()
    )
    client, server = Channel(client_end, client_facts), Channel(server_end, server_facts)
    theirs, ours = Pool(DEPTH * SIZE), Pool(DEPTH * SIZE)
    await client.attach(theirs)
    await server.attach(ours)
    target = theirs.allocate(DEPTH * SIZE)
    descriptor = (await client.expose(target, Access.READ | Access.WRITE)).pack()

    async def move(turn: int) -> None:
        piece = ours.allocate(SIZE)
        while True:
            await server.rdma_write(piece, SIZE, descriptor)
            await server.rdma_read(piece, SIZE, descriptor)
            if turn == 0:
                print("moving", flush=True)

    await asyncio.gather(*map(move, range(DEPTH)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
