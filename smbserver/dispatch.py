"""How a request finds its command, and what must hold before the command sees it.

1. A message is a chain of one or more requests ([MS-SMB2] 3.3.5.2.7).
2. `Dispatcher.run` takes the requests of a chain in order; for each
3. `admit` checks what the opcode's `Row` asks for: session, tree, open, credits;
4. the command parses, acts and returns a `Reply`, an awaitable of one, or `Later`; a `StatusError` becomes an
   error response;
5. when the last has answered, the connection sends the replies of the chain as one response.

A command that has to wait gets a task. If its row allows it, the client is told by an interim response
(STATUS_PENDING), and can cancel; the replies before it in the chain leave at once, it answers later by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smbserver import quick
from smbserver.wire.errors import ErrorResponse, Malformed
from smbserver.wire.header import Command, Header
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbdirect.rdma_write import RdmaWrite
    from smbserver.connection import Connection
    from smbserver.open import Open
    from smbserver.session import Session
    from smbserver.signing import Signer
    from smbserver.tree import Tree

log = logging.getLogger(__name__)

Buffer = bytes | bytearray | memoryview

CREDIT_UNIT = 65536
"""Bytes of payload that one credit pays for ([MS-SMB2] 3.3.5.2.5)."""

INVALIDATE = 2
"""SMB2_CHANNEL_RDMA_V1_INVALIDATE."""

_U32 = struct.Struct("<I")
_U16_PAIR = struct.Struct("<HH")
_FILE_ID = struct.Struct("<QQ")
_ANY = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command answers."""

    body: bytes
    """What follows the header."""
    status: NtStatus = NtStatus.SUCCESS
    payload: Buffer = b""
    """Data of a READ behind the body; not copied."""
    writes: tuple[RdmaWrite, ...] = ()
    """Placed at the client before the reply leaves."""
    sent: Callable[[], None] | None = None
    """Called when the payload's memory may be used again."""


@dataclass(slots=True, eq=False)
class Chain:
    """The requests of one message, and what a related request inherits from the one before it."""

    connection: Connection
    calls: list[Call]
    sealed: Session | None = None
    """The session whose cipher the message was sealed with; the response is sealed with it too."""
    position: int = 0
    session: Session | None = None
    tree: Tree | None = None
    open: Open | None = None
    """Set by CREATE, and by every request that names an open."""
    status: NtStatus = NtStatus.SUCCESS
    """Of the last CREATE: why a related request finds no open."""
    replies: list[tuple[Call, Reply]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Call:
    """One request on its way."""

    connection: Connection
    header: Header
    message: memoryview
    """This request alone, from its header on."""
    chain: Chain
    session: Session | None = None
    tree: Tree | None = None
    open: Open | None = None
    invalidate: int | None = None
    """The token that the final response, success or error, must invalidate at the client."""
    async_id: int = 0
    """Set once the client has been told that the request is pending."""
    signer: Signer | None = None
    """Signs the response; None: it is not signed."""
    sequence: int = -1
    """The ChannelSequence with which the open counts it; -1: it does not."""

    @property
    def is_protected(self) -> bool:
        """Whether the response is signed or sealed."""
        return self.signer is not None or self.chain.sealed is not None


class Later:
    """A reply that a callback brings, once `serve` has returned.

    It leaves in the callback's own wake-up, with all that is sent there; a future's would wait for the next. Until
    then the dispatcher holds the descriptor of the request's open.
    """

    __slots__ = ("bring",)

    bring: Callable[[Reply | Exception], None]
    """Set by the dispatcher. An exception is refused as one that `serve` raises."""


Handler = Callable[[Call], Reply | Awaitable[Reply] | Later | None]
"""None: nothing is answered, as CANCEL wants it."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one command needs before it may run."""

    serve: Handler
    need_session: bool = True
    need_tree: bool = True
    allow_expired: bool = False
    """Also for a session that has expired: it gives something back, or looks itself ([MS-SMB2] 3.3.5.2.9)."""
    authenticates: bool = False
    """SESSION_SETUP: it checks itself whose request it is."""
    file_id: int = 0
    """Where the FileId stands in the message; 0: the command names no open."""
    file_optional: bool = False
    """The command looks itself at a FileId that leads to no open."""
    modifies: bool = False
    """Refused when it comes late from a channel that was given up ([MS-SMB2] 3.3.5.2.10)."""
    allow_compound: bool = True
    may_go_async: bool = False
    """May be answered by STATUS_PENDING first, and be cancelled."""
    waits_in_chain: bool = False
    """May also wait where others of the chain follow; without an interim response then."""
    credit_rule: tuple[int, ...] = ()
    """Where the 32-bit lengths stand whose largest the CreditCharge must pay for."""
    channel: int = 0
    """Where the Channel field stands; its ChannelInfoOffset follows eight bytes later."""


class Dispatcher:
    """Takes chains through the opcode table."""

    def __init__(self, table: Mapping[int, Row]) -> None:
        self._table = table

    def run(self, chain: Chain) -> None:
        """Serve the chain from where it stands until it is answered or has to wait."""
        try:
            self._run(chain)
        except Exception as error:  # an answer was there, and could not be sent
            chain.connection.broke(error)

    def _run(self, chain: Chain) -> None:
        calls = chain.calls
        while chain.position < len(calls):
            call = calls[chain.position]
            chain.position += 1
            row = self._table.get(call.header.command)
            try:
                if row is None:
                    raise StatusError(NtStatus.INVALID_PARAMETER)
                admit(row, call)
                outcome = row.serve(call)
            except Exception as error:
                outcome = refusal(call, error)
            if isinstance(outcome, Reply):
                _finish_on_open(call)
                if call.header.command != Command.CANCEL:
                    chain.replies.append((call, outcome))
            elif isinstance(outcome, Later):
                self._await(call, outcome)
                return
            elif outcome is not None:
                task = asyncio.ensure_future(outcome)
                followed = chain.position < len(calls)
                if row is not None and row.may_go_async and followed and not row.waits_in_chain:
                    # [MS-SMB2] 3.3.4.2: only the last of a chain may wait for an event.
                    task.cancel()
                    _finish_on_open(call)
                    refused = refusal(call, StatusError(NtStatus.INTERNAL_ERROR))
                    chain.replies.append((call, refused))
                    continue
                self._wait(row, call, task, followed)
                return
        chain.connection.respond(chain)
        # A call knows its chain: without this every request would be a cycle for the collector.
        calls.clear()

    def _wait(
        self, row: Row | None, call: Call, task: asyncio.Future[Reply], followed: bool
    ) -> None:
        may_go_async = row is not None and row.may_go_async and not followed
        _hold(call.open, task)
        call.connection.adopt(call, task, may_go_async)
        if may_go_async:
            call.connection.postpone(call)
        task.add_done_callback(functools.partial(self._finish, call))

    def _finish(self, call: Call, task: asyncio.Future[Reply]) -> None:
        if task.cancelled():
            reply = refusal(call, StatusError(NtStatus.CANCELLED))
        else:
            error = task.exception()
            reply = task.result() if error is None else refusal(call, error)
        self._resume(call, reply)

    def _await(self, call: Call, later: Later) -> None:
        call.connection.adopt(call, None, False)
        if call.open is not None:
            call.open.handle.begin_use()
        later.bring = functools.partial(self._brought, call)

    def _brought(self, call: Call, outcome: Reply | Exception) -> None:
        if call.open is not None:
            call.open.handle.end_use()
        self._resume(call, outcome if isinstance(outcome, Reply) else refusal(call, outcome))

    def _resume(self, call: Call, reply: Reply) -> None:
        call.connection.release(call)
        _finish_on_open(call)
        call.chain.replies.append((call, reply))
        self.run(call.chain)


def _hold(opened: Open | None, task: asyncio.Future[Reply]) -> None:
    """The descriptor stays until the request is done: a CLOSE may be served before its task has even begun."""
    if opened is not None:
        held = contextlib.ExitStack()
        held.enter_context(opened.handle)
        task.add_done_callback(lambda _: held.close())


def admit(row: Row, call: Call) -> None:
    """Check what the row asks for and fill in session, tree and open."""
    header, chain, connection = call.header, call.chain, call.connection
    related = header.is_related
    if row.channel:
        call.invalidate = _invalidate_token(row, call)
    if related:
        # [MS-SMB2] 3.3.5.2.7.2: there must be something to inherit.
        lacking = chain.session is None or (row.need_tree and chain.tree is None)
        if chain.position == 1 or (row.need_session and lacking):
            raise StatusError(NtStatus.INVALID_PARAMETER)
        call.session, call.tree = chain.session, chain.tree
    else:
        chain.session = chain.tree = chain.open = None
        chain.status = NtStatus.SUCCESS
    if not row.allow_compound and len(chain.calls) > 1:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    if not row.authenticates:
        connection.authenticate(call, row.need_session, row.allow_expired)
    chain.session = call.session
    if row.need_tree:
        if call.tree is None and not related and call.session is not None:
            call.tree = call.session.trees.get(header.tree_id)
        if call.tree is None:
            raise StatusError(NtStatus.NETWORK_NAME_DELETED)
        chain.tree = call.tree
        connection.check_tree(call)
    if row.credit_rule and connection.large_mtu:
        _check_charge(row, call)
    if row.file_id:
        _find_open(row, call)


def _check_charge(row: Row, call: Call) -> None:
    """[MS-SMB2] 3.3.5.2.5: the CreditCharge pays for the larger of request and response."""
    message = call.message
    paid = CREDIT_UNIT * (call.header.credit_charge or 1)
    for offset in row.credit_rule:
        if len(message) >= offset + 4 and _U32.unpack_from(message, offset)[0] > paid:
            raise StatusError(NtStatus.INVALID_PARAMETER)


def _find_open(row: Row, call: Call) -> None:
    """[MS-SMB2] 3.3.5.2.7.2 and the look-up that every command with a FileId begins with."""
    message, chain, session = call.message, call.chain, call.session
    if len(message) < row.file_id + _FILE_ID.size:
        raise StatusError(NtStatus.INVALID_PARAMETER)
    persistent, volatile = _FILE_ID.unpack_from(message, row.file_id)
    if call.header.is_related and persistent == volatile == _ANY:
        call.open = chain.open
        if call.open is None and chain.status != NtStatus.SUCCESS:
            raise StatusError(chain.status)
        if call.open is not None and call.open.is_closed:
            call.open = None  # by another message, while the chain waited
    elif session is not None:
        call.open = session.opens.get(volatile)
        if call.open is not None and call.open.persistent_id != persistent:
            call.open = None
    if call.open is None or call.open.tree is not call.tree:
        if row.file_optional:
            call.open = None
            return
        raise StatusError(NtStatus.FILE_CLOSED)
    chain.open = call.open
    if call.open.is_replay_eligible:
        call.open.is_replay_eligible = False
        quick.admit(call.open, call.connection.service.caching)
    if call.connection.counts_sequences:
        _begin_on_open(row, call, call.open)


def _begin_on_open(row: Row, call: Call, opened: Open) -> None:
    """[MS-SMB2] 3.3.5.2.10: what changes something must not come late from a channel that was given up."""
    header = call.header
    sequence = header.status & 0xFFFF
    if opened.begin(sequence, header.is_replay):
        call.sequence = sequence
    elif row.modifies:
        raise StatusError(NtStatus.FILE_NOT_AVAILABLE)


def _finish_on_open(call: Call) -> None:
    if call.sequence >= 0 and call.open is not None:
        call.open.finish(call.sequence)
        call.sequence = -1


def _invalidate_token(row: Row, call: Call) -> int | None:
    """The token of the first descriptor where the client wants Send with Invalidate, before anything can fail."""
    message = call.message
    if len(message) < row.channel + 12 or call.connection.channel.facts.transport != "rdma":
        return None
    if _U32.unpack_from(message, row.channel)[0] != INVALIDATE:
        return None
    offset, length = _U16_PAIR.unpack_from(message, row.channel + 8)
    if length < 16 or offset + length > len(message):
        return None
    token: int = _U32.unpack_from(message, offset + 8)[0]
    return token


def refusal(call: Call, error: BaseException) -> Reply:
    """The error response for what a command raised."""
    data = b""
    if isinstance(error, StatusError):
        status, data = NtStatus(error.status), bytes(error.data)
    elif isinstance(error, Malformed):
        call.connection.count("malformed_requests")
        log.info("%s: %s", call.connection, error)
        status = NtStatus.INVALID_PARAMETER
    else:
        call.connection.count("internal_errors")
        log.error("%s: command %d failed", call.connection, call.header.command, exc_info=error)
        status = NtStatus.INTERNAL_ERROR
    if call.header.command == Command.CREATE:
        call.chain.open, call.chain.status = None, status
    return Reply(ErrorResponse(data).pack(), status)
