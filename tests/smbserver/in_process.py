"""The real service in this process: its connections end in socket pairs, whose other ends are clients."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from smbdirect.channel import Channel
from smbdirect.channel_facts import ChannelFacts
from smbserver import client
from smbserver.auth.passdb import Passdb
from smbserver.client.session_setup import Credentials
from smbserver.config import Config, parse
from smbserver.connection import Connection
from smbserver.dispatch import Dispatcher
from smbserver.opcodes import TABLE
from smbserver.service import Service
from smbserver.wire.header import Command, Header

USER, PASSWORD = "alice", "wonderland"

DEADLINE = 30.0
"""Seconds for one test."""


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine as a test."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(DEADLINE):
                await test(*arguments, **named)

        asyncio.run(bounded())

    return run


def configuration(folder: Path, *lines: str, share: tuple[str, ...] = ()) -> Config:
    """A writable share `share`; `lines` go to [global], `share` to [share]."""
    path = folder / "share"
    path.mkdir(exist_ok=True)
    return parse(
        [
            "[global]",
            f"passdb backend = smbpasswd:{folder}/smbpasswd",
            *lines,
            "[share]",
            f"path = {path}",
            "read only = no",
            *share,
        ]
    )


class InProcess:
    """A service, and clients of it."""

    def __init__(self, config: Config) -> None:
        self.service = Service(config)
        self.dispatcher = Dispatcher(TABLE)
        self._clients: list[Channel] = []

    def attach(self, transport: str = "tcp") -> socket.socket:
        """The client's end of a fresh connection."""
        ours, theirs = socket.socketpair()
        facts = ChannelFacts(transport, ("127.0.0.1", 445), ("127.0.0.1", 50000))
        Connection(self.service, Channel(theirs, facts), self.dispatcher).start()
        return ours

    def channel(self) -> Channel:
        """A fresh connection, whose messages the test writes itself."""
        facts = ChannelFacts("tcp", ("127.0.0.1", 50000), ("127.0.0.1", 445), role="client")
        channel = Channel(self.attach(), facts)
        self._clients.append(channel)
        return channel

    async def connection(self, options: client.Options | None = None) -> client.Connection:
        """A connection on which NEGOTIATE is done."""
        connection = client.Connection(self.channel(), options or client.Options())
        await connection.negotiate()
        return connection

    async def session(
        self, options: client.Options | None = None, user: str = USER, password: str = PASSWORD
    ) -> client.Session:
        """A session on a connection of its own."""
        connection = await self.connection(options)
        session = client.Session(connection, Credentials(user, password, "server"))
        await session.set_up(connection)
        return session

    async def close(self) -> None:
        for channel in self._clients:
            channel.close()
            await channel.wait_closed()
        self.service.close()


@contextlib.asynccontextmanager
async def serving(
    folder: Path, *lines: str, share: tuple[str, ...] = ()
) -> AsyncIterator[InProcess]:
    """A service with one account and one share."""
    Passdb(folder / "smbpasswd").set_password(USER, PASSWORD)
    running = InProcess(configuration(folder, *lines, share=share))
    try:
        yield running
    finally:
        await running.close()


async def echo(channel: client.SessionChannel, session: client.Session) -> None:
    """Fails unless the session can be used on the channel: ECHO, signed."""
    request = client.connection.Request(
        Header(command=Command.ECHO, session_id=session.id), (b"\4\0\0\0",)
    )
    (sent,) = await channel.connection.send([request], channel.signed)
    (await sent.answer).expect()
