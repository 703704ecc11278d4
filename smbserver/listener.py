"""Where clients arrive: TCP connections and RDMA channels of the proxy, each handed to the worker of its client.

The way of a connection, which is the same for both kinds:
1. it is accepted; whoever says nothing in time, or too much, is dropped, the oldest first when there are many;
2. its first frame is read, and nothing beyond;
3. a multi-protocol negotiate that leads to dialect 0x02FF is answered here, and the next frame is read;
4. the ClientGUID of the NEGOTIATE names the worker, which is given the socket and what was read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from collections.abc import Coroutine, Sequence
from typing import Any

from smbdirect.channel_facts import ChannelFacts
from smbserver import hosts, interfaces
from smbserver import log as logs
from smbserver.commands.negotiate import DIALECTS, wildcard_response
from smbserver.config import Config
from smbserver.routing import Routes
from smbserver.wire import header, smb1
from smbserver.wire.errors import Malformed
from smbserver.wire.header import Command, Header
from smbserver.wire.negotiate import Dialect, NegotiateRequest
from smbserver.wire.smb1 import SMB2_002, SMB2_WILDCARD, MultiProtocolNegotiate

log = logging.getLogger(__name__)

FIRST_FRAME_DEADLINE = 10.0
"""Seconds for the first frame; clients send it at once."""

MAX_FIRST_FRAME = 16 << 10
"""Bytes of a NEGOTIATE; Windows sends about 300, and twice that with every context."""

MAX_UNKNOWN = 1024
"""Connections that have not yet said who they are; one more, and the oldest is dropped."""

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""

KEEPALIVE = (120, 20, 6)
"""Seconds of silence, seconds between probes, probes: a vanished client is noticed within four minutes."""

ACCEPT_PAUSE = 0.2
"""Seconds to wait when descriptors or memory have run out: others must end first."""

_NO_GUID = bytes(16)
_NOBODY = ChannelFacts("tcp", ("", 0), ("a client", 0))
"""Who is there before it could be asked where it comes from."""


class Refused(Exception):
    """A connection that is not served; the sentence says why."""


class Listener:
    """Accepts, reads the first frame, hands over."""

    def __init__(self, config: Config, routes: Routes, server_guid: bytes | None = None) -> None:
        self.config = config
        self.routes = routes
        self.server_guid = server_guid or uuid.uuid4().bytes
        self.sockets: list[socket.socket] = []
        self.refused = 0
        self.failed = 0
        """Connections that were lost by a fault of the server's."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: dict[asyncio.Task[None], None] = {}

    def listen(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Accept TCP connections at these addresses. Raises OSError if there is none where that can be done."""
        failures: list[OSError] = []
        for host, port in addresses:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
            except OSError as error:
                log.warning("cannot listen on %s port %d: %s", host, port, error.strerror)
                failures.append(error)
                continue
            self.accept_from(sock)
        if addresses and not self.sockets:
            raise failures[0]

    def accept_from(self, sock: socket.socket) -> None:
        """Accept TCP connections from a socket that listens."""
        sock.setblocking(False)
        self.sockets.append(sock)
        self._spawn(self._accept(sock))

    def admit(self, sock: socket.socket, facts: ChannelFacts) -> None:
        """Take a connection in, whatever carries it. Whoever accepts goes on, whatever is wrong with this one."""
        try:
            self._admit(sock, facts)
        except Exception as error:
            self._drop(sock, facts, error)

    def _admit(self, sock: socket.socket, facts: ChannelFacts) -> None:
        defaults = self.config.share_defaults
        if not hosts.permits(defaults.hosts_allow, defaults.hosts_deny, facts.remote[0]):
            raise Refused("hosts allow, hosts deny")
        if len(self._unknown) >= MAX_UNKNOWN:
            oldest = next(iter(self._unknown))
            oldest.cancel()
        task = self._spawn(self._receive(sock, facts))
        self._unknown[task] = None
        task.add_done_callback(lambda task: self._unknown.pop(task, None))

    async def close(self) -> None:
        """Stop listening, drop who has not said who they are."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self.sockets:
            sock.close()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # 1.

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(sock)
            except OSError as error:
                log.warning("a connection could not be accepted: %s", error.strerror)
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            try:
                _tune(accepted)
                facts = ChannelFacts.of_tcp(accepted)
            except OSError:
                accepted.close()  # it is gone already
            except Exception as error:
                self._drop(accepted, _NOBODY, error)
            else:
                self.admit(accepted, facts)

    async def _receive(self, sock: socket.socket, facts: ChannelFacts) -> None:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(FIRST_FRAME_DEADLINE):
                frame, guid = await self._introduce(sock)
            worker = self.routes.find(guid)
            if worker is None:
                raise Refused("there are too many clients")
            if not worker.hand_over(sock, facts, frame):
                raise Refused("its worker has just ended, or is stuck")
        except Exception as error:
            self._drop(sock, facts, error)
        except asyncio.CancelledError:
            self.refused += 1
            sock.close()
            raise

    def _drop(self, sock: socket.socket, facts: ChannelFacts, error: Exception) -> None:
        """At once, or the client would wait for its own deadline."""
        sock.close()
        words = "%s %s:%d was dropped: %s"
        if isinstance(error, TimeoutError):
            error = Refused("it said nothing in time")
        if isinstance(error, Refused | Malformed | OSError):
            self.refused += 1
            log.info(words, facts.transport, *facts.remote, error)
        else:
            self.failed += 1
            log.error(words, facts.transport, *facts.remote, logs.reason(error))

    # 2. and 3.

    async def _introduce(self, sock: socket.socket) -> tuple[bytes, bytes]:
        """The frame to hand over, and the ClientGUID in it."""
        frame = await _read_frame(sock)
        message = frame[4:]
        if message.startswith(smb1.PROTOCOL_ID):
            offered = MultiProtocolNegotiate.parse(message).dialects
            newest = DIALECTS[self.config.general.server_max_protocol]
            if SMB2_WILDCARD not in offered or newest == Dialect.SMB_2_0_2:
                if SMB2_002 in offered:
                    return frame, _NO_GUID
                raise Refused("it speaks SMB 1 only")
            answer = wildcard_response(self.config.general, self.server_guid)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, len(answer).to_bytes(4, "big") + answer)
            frame = await _read_frame(sock)
            message = frame[4:]
        if Header.parse(message).command != Command.NEGOTIATE:
            raise Refused("its first request is not NEGOTIATE")
        request = NegotiateRequest.parse(message)
        # Dialect 2.0.2 knows no ClientGUID, whatever stands in its place.
        if not request.dialects or max(request.dialects) == Dialect.SMB_2_0_2:
            return frame, _NO_GUID
        return frame, request.client_guid


async def _read_frame(sock: socket.socket) -> bytes:
    head = await _read(sock, 4)
    length = int.from_bytes(head, "big")
    if not header.SIZE // 2 <= length <= MAX_FIRST_FRAME:
        raise Refused(f"its first frame would have {length} bytes")
    return head + await _read(sock, length)


async def _read(sock: socket.socket, length: int) -> bytes:
    """Exactly so many bytes: what follows is the worker's to read."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < length:
        part = await loop.sock_recv(sock, length - len(data))
        if not part:
            raise Refused("it went away")
        data += part
    return data


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    idle, interval, count = KEEPALIVE
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)


def addresses(config: Config) -> list[str]:
    """Where to listen: the wildcards, or what `interfaces` names."""
    general = config.general
    if not general.bind_interfaces_only:
        return ["0.0.0.0", "::"] if socket.has_dualstack_ipv6() else ["0.0.0.0"]
    known = interfaces.selected(interfaces.addresses(), general.interfaces)
    return [str(one.address) for one in known]


def transports(config: Config) -> list[tuple[str, int]]:
    """Kind and port of each member of `server smb transports`; plain numbers are TCP ports, as `smb ports` has them."""
    defaults = {"tcp": 445, "nbt": 139, "smbdirect": 445, "smbdirect-iw": 5445}
    found = []
    for member in config.general.server_smb_transports:
        kind, _, port = member.lower().partition(":")
        if kind.isdigit():
            kind, port = "tcp", kind
        if kind not in defaults or (port and not port.isdigit()):
            log.warning("server smb transports: %s is not known here", member)
            continue
        found.append((kind, int(port) if port else defaults[kind]))
    return found
