"""A session and its channels ([MS-SMB2] 3.2.1.3, 3.2.1.8): who sends what, and how it is protected."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from smbdirect.channel_end import ChannelClosed
from smbdirect.close_reason import CloseReason
from smbdirect.control import Proxy
from smbdirect.pool import Pool, PoolRange
from smbserver.client import secure_negotiate
from smbserver.client.connection import PLAIN, Connection, InFlight, Protection, Request, Response
from smbserver.client.options import Options
from smbserver.client.own_proxy import OwnProxy
from smbserver.client.session_setup import Authenticated, Credentials, authenticate
from smbserver.client.statistics import ClientStatistics, PayloadCounters
from smbserver.client.tree import Tree
from smbserver.encryption import Cipher
from smbserver.wire.bounds import Buffer
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.logoff import LogoffRequest
from smbserver.wire.negotiate import Dialect, SecurityMode
from smbserver.wire.rdma_channel import RdmaChannel
from smbserver.wire.session_setup import SessionFlags
from smbserver.wire.tree_connect import TreeConnectRequest, TreeConnectResponse

INLINE_OVERHEAD = 1024
"""Bytes left for headers when payload travels inside an SMB Direct message."""


@dataclass(slots=True, eq=False)
class SessionChannel:
    """A connection that is bound to the session, and how messages are protected on it."""

    connection: Connection
    usual: Protection
    signed: Protection

    @property
    def is_rdma(self) -> bool:
        return self.connection.channel.facts.transport == "rdma"


class Session:
    """An authenticated session. Close it, or use it as an asynchronous context manager."""

    def __init__(self, connection: Connection, credentials: Credentials) -> None:
        self.options: Options = connection.options
        self.credentials = credentials
        self.id = 0
        self.dialect: int = connection.negotiated.dialect
        self.flags = 0
        """SessionFlags of the last SESSION_SETUP response."""
        self.authenticated: Authenticated
        """The first authentication: its signing key also signs bindings."""
        self.cipher: Cipher | None = None
        self.channels: list[SessionChannel] = []
        """Those that live; the first is the one the session was set up on, while it lives."""
        self.channel_sequence = 0
        """Counts losses of channels, so that the server can tell old requests from repeated ones."""
        self.counters = PayloadCounters()
        self.proxy: Proxy | None = None
        """The control connection that made the RDMA channels and can make more."""
        self.own_proxy: OwnProxy | None = None
        """An rdmaproxy of the session's own; ends with it."""
        self._preferred: list[SessionChannel] = []
        self._pool: Pool | None = None
        self._validated = False
        self._ended = False

    # -- life

    async def set_up(self, connection: Connection, previous_session_id: int = 0) -> None:
        """Authenticates on the first connection ([MS-SMB2] 3.2.4.2.3)."""
        outcome = await authenticate(
            connection, self.credentials, previous_session_id=previous_session_id
        )
        self.id, self.flags, self.authenticated = outcome.session_id, outcome.session_flags, outcome
        cipher = connection.negotiated.cipher
        if cipher and outcome.is_user:
            keys = outcome.keys
            self.cipher = Cipher(cipher, keys.client_to_server, keys.server_to_client)
        if self.options.encrypt and self.cipher is None:
            raise ConnectionError("encryption was asked for, and the server has no cipher for us")
        self._add(connection, outcome)

    async def bind(self, connection: Connection) -> SessionChannel:
        """Makes a connection one more channel of the session ([MS-SMB2] 3.2.4.2.3.1)."""
        signer = self.authenticated.signer
        outcome = await authenticate(
            connection, self.credentials, session_id=self.id, binding=signer
        )
        return self._add(connection, outcome)

    async def close(self) -> None:
        """LOGOFF, where it still can be said, and the end of all connections."""
        if self._ended:
            return
        self._ended = True
        try:
            if self.channels:
                await self.request(Command.LOGOFF, LogoffRequest().pack())
        except ChannelClosed:
            pass
        finally:
            for channel in list(self.channels):
                await channel.connection.close("the session has ended")
            if self._pool is not None:
                self._pool.close()
            if self.proxy is not None:
                await self.proxy.close()
            if self.own_proxy is not None:
                await self.own_proxy.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    # -- channels

    def _add(self, connection: Connection, outcome: Authenticated) -> SessionChannel:
        signed = Protection(outcome.signer) if outcome.is_user else PLAIN
        usual = signed if self._must_sign(connection) else PLAIN
        if self.cipher is not None:
            connection.ciphers[self.id] = self.cipher
            if self.options.encrypt or self.flags & SessionFlags.ENCRYPT_DATA:
                usual = signed = Protection(outcome.signer, self.cipher)
        channel = SessionChannel(connection, usual, signed)
        self.channels.append(channel)
        self._choose_preferred()
        connection.on_lost.append(self.forget)
        return channel

    def _must_sign(self, connection: Connection) -> bool:
        required = connection.negotiated.security_mode & SecurityMode.SIGNING_REQUIRED
        return self.options.sign or bool(required)

    def forget(self, connection: Connection) -> None:
        """A connection has ended. The session lives on while it has a channel ([MS-SMB2] 3.2.7.1)."""
        if all(one.connection is not connection for one in self.channels):
            return
        self.channels = [one for one in self.channels if one.connection is not connection]
        self.channel_sequence = (self.channel_sequence + 1) & 0xFFFF
        self._choose_preferred()

    def _choose_preferred(self) -> None:
        """RDMA channels, while there are any; the others then stay idle, as reserve."""
        by_rdma = [channel for channel in self.channels if channel.is_rdma]
        self._preferred = by_rdma or list(self.channels)

    def pick(self) -> SessionChannel:
        """The preferred channel with the fewest requests in flight."""
        preferred = self._preferred
        if len(preferred) == 1:
            return preferred[0]
        self._living()
        return min(preferred, key=lambda channel: channel.connection.in_flight)

    def uses_rdma(self, channel: SessionChannel, tree: Tree, length: int) -> bool:
        """Whether payload goes by descriptors: protected payload must not ([MS-SMB2] 3.2.4.6)."""
        return (
            length >= self.options.rdma_threshold
            and channel.is_rdma
            and channel.usual is PLAIN
            and not tree.encrypt
        )

    def rdma_channel(self, channel: SessionChannel) -> int:
        """The Channel field of READ and WRITE by descriptors: with invalidation, if dialect and adapter have it."""
        if self.options.rdma_channel is not None:
            return self.options.rdma_channel
        invalidation = channel.connection.channel.facts.invalidation
        if self.dialect >= Dialect.SMB_3_0_2 and invalidation:
            return RdmaChannel.RDMA_V1_INVALIDATE
        return RdmaChannel.RDMA_V1

    @property
    def max_read_size(self) -> int:
        """Bytes that one READ can ask for on any of the channels."""
        return min(self._limit(channel, writing=False) for channel in self._living())

    @property
    def max_write_size(self) -> int:
        """Bytes that one WRITE can carry on any of the channels."""
        return min(self._limit(channel, writing=True) for channel in self._living())

    def _living(self) -> list[SessionChannel]:
        if not self.channels:
            raise ChannelClosed(CloseReason.BY_PEER, "the session has no channel left")
        return self.channels

    def _limit(self, channel: SessionChannel, *, writing: bool) -> int:
        connection, facts = channel.connection, channel.connection.channel.facts
        agreed = connection.negotiated
        limit = agreed.max_write_size if writing else agreed.max_read_size
        if not connection.multi_credit:
            limit = min(limit, 65536)
        if not channel.is_rdma:
            return limit
        if channel.usual is PLAIN:
            return min(limit, facts.max_read_write_size or limit)
        inline = facts.max_fragmented_send_size if writing else facts.max_fragmented_receive_size
        return min(limit, inline - INLINE_OVERHEAD)

    # -- requests

    async def request(
        self,
        command: Command,
        *parts: Buffer,
        tree: Tree | None = None,
        channel: SessionChannel | None = None,
        charge: int = 1,
        signed: bool = False,
        accept: tuple[int, ...] = (),
    ) -> Response:
        """Sends a request and awaits its final response; StatusError unless SUCCESS or in `accept`."""
        header = Header(command=command)
        sent = await self.send(
            header, *parts, tree=tree, channel=channel, charge=charge, signed=signed
        )
        return (await sent.answer).expect(*accept)

    async def send(
        self,
        header: Header,
        *parts: Buffer,
        tree: Tree | None = None,
        channel: SessionChannel | None = None,
        charge: int = 1,
        signed: bool = False,
        into: PoolRange | None = None,
    ) -> InFlight:
        """Sends a request whose header and body may be anything; credits, ids and protection are added."""
        channel = channel or self.pick()
        self._fill(header, tree)
        protection = self._protection(channel, tree, signed)
        request = Request(header, parts, charge if channel.connection.multi_credit else 1, into)
        return (await channel.connection.send([request], protection))[0]

    async def compound(
        self,
        *messages: tuple[Command, bytes],
        tree: Tree | None = None,
        related: bool = True,
        channel: SessionChannel | None = None,
    ) -> list[Response]:
        """Sends several requests as one; the responses, whatever their status."""
        channel = channel or self.pick()
        requests = []
        for position, (command, body) in enumerate(messages):
            header = Header(command=command)
            self._fill(header, tree)
            if related and position:
                header.flags |= HeaderFlags.RELATED_OPERATIONS.value
            requests.append(Request(header, (body,)))
        protection = self._protection(channel, tree, False)
        return [await sent.answer for sent in await channel.connection.send(requests, protection)]

    def cancel(self, sent: InFlight, channel: SessionChannel) -> None:
        """Asks the server to end a request."""
        channel.connection.cancel(sent, channel.usual)

    def _fill(self, header: Header, tree: Tree | None) -> None:
        header.session_id = self.id
        if tree is not None:
            header.tree_id = tree.id
        if self.dialect >= Dialect.SMB_3_0:
            header.status |= self.channel_sequence

    def _protection(self, channel: SessionChannel, tree: Tree | None, signed: bool) -> Protection:
        if tree is not None and tree.encrypt and self.cipher is not None:
            return Protection(channel.signed.signer, self.cipher)
        return channel.signed if signed else channel.usual

    # -- shares and memory

    async def tree(self, share: str) -> Tree:
        """Enters a share. In 3.1.1 the request is signed, whatever else is ([MS-SMB2] 3.2.4.1.1)."""
        path = rf"\\{self.credentials.host}\{share}"
        response = await self.request(
            Command.TREE_CONNECT,
            TreeConnectRequest(path).pack(),
            signed=self.dialect >= Dialect.SMB_3_1_1,
        )
        body = TreeConnectResponse.parse(response.message)
        tree = Tree(self, response.header.tree_id, share, body)
        if not self._validated:
            self._validated = True
            await self._validate(response.connection, tree)
        return tree

    async def _validate(self, connection: Connection, tree: Tree) -> None:
        if self.authenticated.is_user and secure_negotiate.is_due(connection):
            await secure_negotiate.validate(connection, tree)

    @property
    def pool(self) -> Pool:
        """Memory that RDMA can reach; made when it is first needed."""
        if self._pool is None:
            self._pool = Pool(self.options.pool_size)
        return self._pool

    async def buffer(self, length: int) -> PoolRange:
        """Memory for `read_into` and `write_from`: RDMA places payload there without a copy."""
        return await self.pool.acquire(length)

    def statistics(self) -> ClientStatistics:
        return self.counters.snapshot()
