"""Channels of a running proxy in other processes than the one they were handed to, with all that RDMA moves."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from smbdirect.channel import Channel
from smbdirect.channel_facts import ChannelFacts
from smbdirect.control import Proxy
from smbdirect.frames import Access
from smbdirect.pool import PAGE, Pool
from tests.rdmaproxy.running import Daemon, run, running

FACTS_SIZE = 4096


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as found:
        yield found


def forked(work: Callable[[], None]) -> int:
    """The pid of a child that does it, and ends with 0 if nothing went wrong."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def serve(sock: socket.socket, facts: ChannelFacts) -> None:
    """The worker's part: what the client's memory says is read by RDMA, and written back in capitals."""

    async def story() -> None:
        channel, pool = Channel(sock, facts), Pool(PAGE)
        await channel.attach(pool)
        descriptor = bytes(await channel.receive())
        piece = pool.allocate(PAGE)
        await channel.rdma_read(piece, PAGE, descriptor)
        piece.view[:] = bytes(piece.view).upper()
        await channel.rdma_write(piece, PAGE, descriptor)
        channel.send(b"done")
        assert bytes(await channel.receive()) == b"thanks"
        channel.close()
        await channel.wait_closed()

    run(story)


async def connected(daemon: Daemon) -> tuple[Channel, socket.socket, ChannelFacts]:
    """A client's channel; and the server's end, which nothing was done with."""
    proxy = await Proxy.open(daemon.control)
    listener = await proxy.listen("127.0.0.1", 0)
    (client, client_facts), (server, server_facts) = await asyncio.gather(
        proxy.connect("127.0.0.1", listener.port), listener.accept()
    )
    await proxy.close()
    return Channel(client, client_facts), server, server_facts


async def ask(client: Channel) -> None:
    pool = Pool(PAGE)
    await client.attach(pool)
    piece = pool.allocate(PAGE)
    piece.view[:] = b"abcdefgh" * (PAGE // 8)
    exposed = await client.expose(piece, Access.READ | Access.WRITE)
    client.send(exposed.pack())
    assert bytes(await client.receive()) == b"done"
    assert bytes(piece.view) == b"ABCDEFGH" * (PAGE // 8)
    client.send(b"thanks")
    await client.wait_closed()


def test_in_a_forked_child(daemon: Daemon) -> None:
    async def story() -> None:
        client, server, facts = await connected(daemon)
        child = forked_from_a_loop(lambda: serve(server, facts))
        server.close()
        await ask(client)
        assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0

    run(story)


def forked_from_a_loop(work: Callable[[], None]) -> int:
    """As servers do it that fork for each connection: the child leaves its parent's loop alone."""

    def in_the_child() -> None:
        asyncio.events._set_running_loop(None)
        work()

    return forked(in_the_child)


def test_after_it_was_passed_twice_by_scm_rights(daemon: Daemon) -> None:
    """From this process to a second one, which passes it to a third, where it is used."""
    first, second = (
        socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    )

    def pass_on() -> None:
        facts, descriptors, _, _ = socket.recv_fds(first[1], FACTS_SIZE, 1)
        socket.send_fds(second[0], [facts], descriptors)

    def use() -> None:
        facts, descriptors, _, _ = socket.recv_fds(second[1], FACTS_SIZE, 1)
        serve(socket.socket(fileno=descriptors[0]), ChannelFacts.from_json(json.loads(facts)))

    children = forked(pass_on), forked(use)

    async def story() -> None:
        client, server, facts = await connected(daemon)
        socket.send_fds(first[0], [json.dumps(facts.to_json()).encode()], [server.fileno()])
        server.close()
        await ask(client)

    run(story)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    for sock in (*first, *second):
        sock.close()
