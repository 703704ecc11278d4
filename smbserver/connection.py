"""One transport connection: what was negotiated, what may be sent on it, what is under way ([MS-SMB2] 3.3.1.7).

The way of a message:
1. the channel delivers it; if it is sealed, `_unseal` opens it;
2. it is split into requests; each must use MessageIds that were granted;
3. the dispatcher runs the chain; `authenticate` and `check_tree` are its questions to the connection;
4. `respond` packs the replies, signs or seals them, and hands them to the channel, which sends them in one piece
   at the end of the wake-up.
Reading stops while too many requests are under way or too many bytes wait to be sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smbserver import log as logs
from smbserver.commands import negotiate
from smbserver.credits import MessageWindow
from smbserver.dispatch import Call, Chain, Dispatcher, Reply, refusal
from smbserver.preauth import PreauthHash
from smbserver.quick import Quick
from smbserver.session import Binding, Session, SessionState
from smbserver.wire import smb1, transform
from smbserver.wire.errors import Malformed
from smbserver.wire.header import SIGNATURE_OFFSET, Command, Header, split_compound
from smbserver.wire.negotiate import Dialect
from smbserver.wire.status import NtStatus, StatusError
from smbserver.wire.transform import TransformHeader

if TYPE_CHECKING:
    from smbdirect.channel import Channel
    from smbdirect.channel_end import ChannelClosed
    from smbdirect.pool import Pool
    from smbdirect.rdma_write import RdmaWrite
    from smbserver.auth.acceptor import Acceptor
    from smbserver.service import Service

log = logging.getLogger(__name__)

MAX_REQUESTS = 1024
"""Requests under way, without those that wait for an event. Clients keep a few hundred; Windows grants 512 credits."""

MAX_REQUEST_BYTES = 64 << 20
"""Bytes of messages under way. Eight WRITEs of the largest size."""

MAX_WAITING_BYTES = 16 << 20
"""Bytes of responses that the client has not taken yet, before no more requests are read. Two of the largest READs."""

MAX_WAITING = 2048
"""Requests that were answered by STATUS_PENDING and wait, CHANGE_NOTIFY above all. A client has one per folder."""

MAX_AUTHENTICATIONS = 16
"""Authentications at the same time; a client has one."""

AUTHENTICATION_DEADLINE = 45.0
"""Seconds until the first session: who only negotiates must not keep a worker."""

UNAUTHENTICATED_LIMIT = 128 << 10
"""Bytes of a message before somebody has authenticated: a security blob has 64 KiB at most."""

SEALED_OVERHEAD = transform.SIZE
RESPONSE_OVERHEAD = 64 + 8
"""Bytes of one response besides body and payload: its header, and the padding before the next one."""

_SIGNED = 0x00000008
_ECHOED_FLAGS = 0x00000074  # RELATED_OPERATIONS and PRIORITY_MASK
_RESPONSE = 0x00000001
_ASYNC = 0x00000002
_UNSIGNED = bytes(16)
_TRANSFORM = b"\xfdSMB"


@dataclass(slots=True)
class Authentication:
    """A SESSION_SETUP exchange under way on this connection."""

    session: Session
    acceptor: Acceptor
    preauth: PreauthHash
    """Session.PreauthIntegrityHashValue, or that of the PreauthSessionTable ([MS-SMB2] 3.3.1.7, 3.3.1.8)."""
    binding: bool = False


class Connection:
    """[MS-SMB2] 3.3.1.7."""

    def __init__(self, service: Service, channel: Channel, dispatcher: Dispatcher) -> None:
        self.service = service
        self.channel = channel
        self.dispatcher = dispatcher
        self.dialect: Dialect | None = None
        self.client_guid = bytes(16)
        self.client_capabilities = 0
        self.client_security_mode = 0
        self.client_dialects: tuple[int, ...] = ()
        self.capabilities = 0
        self.security_mode = 0
        self.cipher_id = 0
        self.signing_algorithm = 0
        self.max_transact_size = self.max_read_size = self.max_write_size = 65536
        self.large_mtu = False
        """CreditCharge counts."""
        self.counts_sequences = False
        """Requests carry a ChannelSequence: dialect 3.0 or newer."""
        self.preauth = PreauthHash()
        self.window: MessageWindow | None = None
        self.bindings: dict[int, Binding] = {}
        self.authentications: dict[int, Authentication] = {}
        self.pool: Pool | None = None
        """The worker's memory, once it is attached to this RDMA channel."""
        self.quick = Quick(self)
        self.closed = False
        self._pending: dict[int, tuple[Call, asyncio.Future[Reply] | None, bool]] = {}
        self._requests = 0
        self._request_bytes = 0
        self._holding = False
        self._draining: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def __str__(self) -> str:
        facts = self.channel.facts
        return f"{facts.transport} {facts.remote[0]}:{facts.remote[1]}"

    def start(self) -> None:
        """Begin to serve."""
        self.service.connections.add(self)
        self.channel.limit_messages(UNAUTHENTICATED_LIMIT)
        self._deadline = asyncio.get_running_loop().call_later(
            AUTHENTICATION_DEADLINE, self._expire
        )
        self.channel.shorten(self.quick)
        self.channel.start(self._on_message, self._on_closed)

    def fail(self, words: str) -> None:
        """End the connection because of what the peer did."""
        self.channel.close(words)
        self._end()

    def broke(self, error: Exception) -> None:
        """End the connection because of a fault in here: nobody shall wait for an answer that cannot come."""
        self.count("internal_errors")
        log.error("%s: ended: %s", self, logs.reason(error))
        self.fail("a fault of the server's")

    def _expire(self) -> None:
        if not self.bindings:
            self.count("connections_ended_unauthenticated")
            self.fail(f"nobody authenticated within {AUTHENTICATION_DEADLINE:.0f} s")

    def count(self, name: str) -> None:
        """Count a refusal or an event."""
        self.service.counters[name] += 1

    # 1. and 2.: a message arrives

    def _on_message(self, message: memoryview) -> None:
        if self.closed:
            return
        try:
            sealed = None
            if self.dialect is None and message[:4] == smb1.PROTOCOL_ID:
                self._serve_smb1(message)
                return
            if message[:4] == _TRANSFORM:
                sealed, message = self._unseal(message)
            chain = Chain(self, [], sealed)
            for request in split_compound(message):
                call = Call(self, Header.parse(request), request, chain)
                self._check_order(call.header)
                chain.calls.append(call)
        except Malformed as error:
            self.count("connections_ended_malformed")
            log.info("%s: ended: %s", self, error)
            self.fail(str(error))
            return
        self.dispatcher.run(chain)

    def _serve_smb1(self, message: memoryview) -> None:
        """A multi-protocol negotiate counts as MessageId 0."""
        try:
            self.channel.send(*negotiate.serve_smb1(self, message))
        except StatusError as error:
            raise Malformed(f"a multi-protocol negotiate without SMB 2: {error}") from error
        limit = self.service.config.general.smb2_max_credits
        self.window = MessageWindow(limit, first=1)

    def _unseal(self, message: memoryview) -> tuple[Session, memoryview]:
        sealing = TransformHeader.parse(message)
        binding = self.bindings.get(sealing.session_id)
        if binding is None or binding.session.cipher is None:
            raise Malformed(f"sealed for session {sealing.session_id:#x}, which has no key here")
        return binding.session, binding.session.cipher.open(message)

    def _check_order(self, header: Header) -> None:
        """[MS-SMB2] 3.3.5.2.3: what is wrong here ends the connection."""
        if header.is_response:
            raise Malformed("a response was sent to the server")
        if (self.dialect is None) != (header.command == Command.NEGOTIATE):
            raise Malformed(f"command {header.command} where NEGOTIATE should be, or the reverse")
        if header.command == Command.CANCEL:
            return
        if self.window is None:
            # After a multi-protocol negotiate that was answered elsewhere the first id is 1.
            first = min(header.message_id, 1)
            self.window = MessageWindow(self.service.config.general.smb2_max_credits, first)
        charge = (header.credit_charge or 1) if self.large_mtu else 1
        if not self.window.take(header.message_id, charge):
            raise Malformed(
                f"MessageId {header.message_id} with charge {charge} is not one of those granted: "
                f"{self.window.low} to {self.window.high - 1}"
            )

    # 3.: what the dispatcher asks

    def authenticate(self, call: Call, need_session: bool, allow_expired: bool) -> None:
        """Find the session of a request, and check that it really comes from it.

        [MS-SMB2] 3.3.5.2.4, 3.3.5.2.9.
        """
        header, sealed = call.header, call.chain.sealed
        inherited = call.session if header.is_related else None
        binding = self.bindings.get(header.session_id if inherited is None else inherited.id)
        if binding is None:
            if need_session:
                raise StatusError(NtStatus.USER_SESSION_DELETED)
            return
        session = binding.session
        if sealed is not None and sealed is not session:
            raise StatusError(NtStatus.USER_SESSION_DELETED)
        self.verify(call, binding)
        if session.encrypt_data and sealed is None:
            raise StatusError(NtStatus.ACCESS_DENIED)
        if session.has_expired and not allow_expired:
            raise StatusError(NtStatus.NETWORK_SESSION_EXPIRED)
        call.session = session

    def verify(self, call: Call, binding: Binding) -> None:
        """Check the signature, where there is or must be one; the response is signed then too."""
        if call.chain.sealed is not None:
            return
        signer = binding.signer
        if call.header.is_signed and signer is not None:
            # Also the refusal is signed: who signs takes an unsigned one for an attack.
            call.signer = signer
            if not signer.verify(call.message):
                self.count("bad_signatures")
                raise StatusError(NtStatus.ACCESS_DENIED)
        elif binding.session.signing_required:
            call.signer = signer
            raise StatusError(NtStatus.ACCESS_DENIED)

    def check_tree(self, call: Call) -> None:
        """Refuse plain requests to a share that is encrypted ([MS-SMB2] 3.3.5.2.11)."""
        if call.tree is not None and call.tree.encrypt_data and call.chain.sealed is None:
            raise StatusError(NtStatus.ACCESS_DENIED)

    def adopt(self, call: Call, task: asyncio.Future[Reply] | None, may_go_async: bool) -> None:
        """A request takes longer: keep it until `release`. One without a task cannot be cancelled."""
        self._pending[call.header.message_id] = call, task, may_go_async
        if not may_go_async:
            self._requests += 1
            self._request_bytes += len(call.message)
            self._balance()

    def release(self, call: Call) -> None:
        """A request that took longer is done."""
        _, _, may_go_async = self._pending.pop(call.header.message_id)
        if not may_go_async:
            self._requests -= 1
            self._request_bytes -= len(call.message)
            self._balance()

    def may_wait(self) -> bool:
        """Whether one more request may wait for an event."""
        return len(self._pending) - self._requests < MAX_WAITING

    def postpone(self, call: Call) -> None:
        """Tell the client that the request is pending ([MS-SMB2] 3.3.4.2)."""
        chain = call.chain
        self.respond(chain)
        call.async_id = next(self.service.async_ids)
        signer, call.signer = call.signer, None
        interim = refusal(call, StatusError(NtStatus.PENDING))
        chain.replies.append((call, interim))
        self.respond(chain)
        call.signer = signer

    @property
    def is_idle(self) -> bool:
        """Whether nobody has a session here or tries to, and no request is under way."""
        return not (self.bindings or self.authentications or self._pending)

    def cancel(self, call: Call) -> None:
        """[MS-SMB2] 3.3.5.16."""
        header = call.header
        for pending, task, may_go_async in self._pending.values():
            same = (
                pending.async_id == header.async_id
                if header.is_async
                else pending.header.message_id == header.message_id
            )
            if same and may_go_async and task is not None:
                task.cancel()
                return

    # 4.: the response

    def respond(self, chain: Chain) -> None:
        """Send the replies of a chain as one message."""
        replies, chain.replies = chain.replies, []
        if not replies:
            return
        if self.closed:
            for _, reply in replies:
                if reply.sent is not None:
                    reply.sent()
            return
        if self.channel.facts.transport == "rdma":
            replies = self._fit(replies)
        parts: list[bytes | bytearray | memoryview] = []
        writes: tuple[RdmaWrite, ...] = ()
        invalidate = None
        marks = []
        last = len(replies) - 1
        for position, (call, reply) in enumerate(replies):
            parts += self._pack(call, reply, last > 0, position < last)
            writes += reply.writes
            if call.invalidate is not None and reply.status != NtStatus.PENDING:
                invalidate = call.invalidate
            if reply.sent is not None:
                marks.append(reply.sent)
        sealed = chain.sealed
        if sealed is not None and sealed.cipher is not None:
            parts = [sealed.cipher.seal(sealed.id, parts)]
        self._send(parts, writes, invalidate, marks)

    def refuse_later(self, header: bytes, error: StatusError, token: int | None) -> None:
        """The answer to a request that was begun in C, after what C has sent; `token` must be invalidated."""
        chain = Chain(self, [])
        call = Call(self, Header.parse(header), memoryview(header), chain, invalidate=token)
        binding = self.bindings.get(call.header.session_id)
        if call.header.is_signed and binding is not None:
            call.signer = binding.signer
        chain.replies.append((call, refusal(call, error)))
        asyncio.get_running_loop().call_soon(self.dispatcher.run, chain)

    def _fit(self, replies: list[tuple[Call, Reply]]) -> list[tuple[Call, Reply]]:
        """Refuse what is longer inline than an SMB Direct peer takes ([MS-SMBD] 3.1.5.4)."""
        room = self.channel.facts.max_fragmented_send_size - SEALED_OVERHEAD
        fitting = []
        for call, reply in replies:
            room -= RESPONSE_OVERHEAD + len(reply.body) + len(reply.payload)
            if room < 0:
                if reply.sent is not None:
                    reply.sent()
                self.count("responses_too_long")
                reply = refusal(call, StatusError(NtStatus.INVALID_PARAMETER))  # noqa: PLW2901
            fitting.append((call, reply))
        return fitting

    def _send(
        self,
        parts: list[bytes | bytearray | memoryview],
        writes: tuple[RdmaWrite, ...],
        invalidate: int | None,
        marks: list[Callable[[], None]],
    ) -> None:
        def sent() -> None:
            for mark in marks:
                mark()

        channel = self.channel
        mark = None if not marks else marks[0] if len(marks) == 1 else sent
        channel.send(*parts, writes=writes, invalidate=invalidate, sent=mark)
        if channel.waiting_bytes > MAX_WAITING_BYTES and self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())
            self._balance()

    def _pack(
        self, call: Call, reply: Reply, compounded: bool, followed: bool
    ) -> tuple[bytes | bytearray | memoryview, ...]:
        """Header, body and payload of one response, signed where it must be."""
        header, body, payload = call.header, reply.body, reply.payload
        gap = b""
        status = reply.status
        header.status = status
        flags = header.flags & _ECHOED_FLAGS | _RESPONSE
        if call.session is not None:
            header.session_id = call.session.id
        if call.async_id:
            # The interim response granted the credits already ([MS-SMB2] 3.3.4.2).
            flags |= _ASYNC
            first = status == NtStatus.PENDING
            header.credits = self._grant(call) if first else 0
            header.async_id = call.async_id
        else:
            header.credits = self._grant(call)
            if call.tree is not None:
                header.tree_id = call.tree.id
        header.next_command = 0
        if compounded:
            # The last one is padded too, as Windows does.
            length = len(body) + len(payload)
            gap = _UNSIGNED[: -length % 8]
            if followed:
                header.next_command = 64 + length + len(gap)
        signer = call.signer if call.chain.sealed is None else None
        was_signed = header.flags & _SIGNED
        if signer is not None or (was_signed and status == NtStatus.USER_SESSION_DELETED):
            flags |= _SIGNED
        header.flags = flags
        header.signature = _UNSIGNED
        packed = header.pack()
        if signer is not None:
            signature = signer.sign((packed, body, payload, gap))
            packed = packed[:SIGNATURE_OFFSET] + signature
        if header.command <= Command.SESSION_SETUP:
            self._note_response(call, packed + body)
        if gap:
            return packed, body, payload, gap
        return (packed, body, payload) if payload else (packed, body)

    def _grant(self, call: Call) -> int:
        if self.window is None:
            return 1
        header = call.header
        return self.window.grant(max(header.credits, header.credit_charge, 1))

    def _note_response(self, call: Call, response: bytes) -> None:
        """Extend the hashes of preauthentication integrity ([MS-SMB2] 3.3.5.4, 3.3.5.5)."""
        if self.dialect != Dialect.SMB_3_1_1:
            return
        if call.header.command == Command.NEGOTIATE:
            self.preauth.update(response)
        elif call.header.status == NtStatus.MORE_PROCESSING_REQUIRED:
            authentication = self.authentications.get(call.header.session_id)
            if authentication is not None:
                authentication.preauth.update(response)

    # Flow control

    def _balance(self) -> None:
        """Read, or not, according to what is under way and what waits to be sent."""
        full = (
            self._requests >= MAX_REQUESTS
            or self._request_bytes >= MAX_REQUEST_BYTES
            or self._draining is not None
        )
        if full and not self._holding:
            self.channel.pause_reading()
        elif self._holding and not full:
            self.channel.resume_reading()
        self._holding = full

    async def _drain(self) -> None:
        await self.channel.drain()
        self._draining = None
        if not self.closed:
            self._balance()

    # Sessions

    def bind(self, binding: Binding) -> None:
        """A session may be used on this connection from now on."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        binding.session.bindings[self] = binding
        self.bindings[binding.session.id] = binding
        self.quick.bind(binding.session)
        self.channel.limit_messages(self.channel.facts.max_fragmented_receive_size)

    def forget(self, session: Session) -> None:
        """A session has ended."""
        self.bindings.pop(session.id, None)
        self.quick.forget(session)
        self.authentications.pop(session.id, None)

    async def attach_pool(self) -> None:
        """Make the worker's memory known to the proxy, so that payload can be placed by RDMA."""
        if self.channel.facts.transport != "rdma" or self.pool is not None:
            return
        pool = self.service.pool
        await self.channel.attach(pool)
        self.pool = pool
        self.quick.use(self.service.quick_ranges)

    # The end

    def _on_closed(self, closed: ChannelClosed) -> None:
        log.debug("%s: %s", self, closed.words)
        self._end()

    def _end(self) -> None:
        """Requests under way go on, their replies are dropped; who waits for an event is cancelled.

        A CREATE also goes on while the session has another channel, where the client will ask for it again.
        """
        if self.closed:
            return
        self.closed = True
        if self._deadline is not None:
            self._deadline.cancel()
        self.service.connections.discard(self)
        for call, task, may_go_async in list(self._pending.values()):
            if task is not None and may_go_async and not self._is_asked_again(call):
                task.cancel()
        for authentication in list(self.authentications.values()):
            if (
                not authentication.binding
                and authentication.session.state is not SessionState.VALID
            ):
                self.service.end_session(authentication.session)
        self.authentications.clear()
        for binding in list(self.bindings.values()):
            session = binding.session
            self.quick.forget(session)
            session.bindings.pop(self, None)
            if not session.bindings:
                self.service.end_session(session)
        self.bindings.clear()
        self.service.connection_ended()

    def _is_asked_again(self, call: Call) -> bool:
        return (
            call.header.command == Command.CREATE
            and call.session is not None
            and any(one is not self for one in call.session.bindings)
        )
