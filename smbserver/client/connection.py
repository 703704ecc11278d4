"""One connection to a server: requests in flight, and the way of a message out and in.

Out: credits are taken, header and body become parts, signed or sealed, and given to the channel.
In: a message is opened if it is sealed, split if it is a compound, verified, and given to whoever
asked; the data of a large READ, if nobody must verify it, is received straight into the range that
awaits it; what nobody asked for (oplock and lease breaks) goes to `unsolicited`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed
from smbdirect.pool import PoolRange
from smbserver.client.credits import Credits
from smbserver.client.negotiation import Negotiated, accept, offer
from smbserver.client.options import Options
from smbserver.encryption import Cipher
from smbserver.preauth import PreauthHash
from smbserver.signing import Signer
from smbserver.wire import smb1, transform
from smbserver.wire.bounds import Buffer, Malformed, padding
from smbserver.wire.cancel import CancelRequest
from smbserver.wire.errors import ErrorResponse
from smbserver.wire.header import (
    PROTOCOL_ID,
    SIGNATURE_OFFSET,
    UNSOLICITED,
    Command,
    Header,
    HeaderFlags,
    split_compound,
)
from smbserver.wire.negotiate import Capabilities, Dialect, NegotiateResponse
from smbserver.wire.read import DATA_OFFSET, data_length
from smbserver.wire.smb1 import MultiProtocolNegotiate
from smbserver.wire.status import NtStatus, StatusError

UNSOLICITED_MAX = 256
"""Messages nobody asked for that are kept; the oldest go first."""

_SIGNED = HeaderFlags.SIGNED.value
_RELATED = HeaderFlags.RELATED_OPERATIONS.value
_ASYNC = HeaderFlags.ASYNC_COMMAND.value
_MAY_BE_UNSIGNED = frozenset(
    {NtStatus.PENDING, NtStatus.USER_SESSION_DELETED, NtStatus.NETWORK_SESSION_EXPIRED}
)


class BadSignature(Exception):
    """A response was to be signed and is not, or is signed wrongly."""


def name_of(command: int) -> str:
    """A command's name, or its number where it has none: the fuzzing client sends such ones too."""
    return Command(command).name if command in Command._value2member_map_ else f"command {command}"


@dataclass(slots=True)
class Request:
    """A message to be sent: header (of which the connection fills what it knows) and body."""

    header: Header
    parts: Sequence[Buffer]
    charge: int = 1
    into: PoolRange | None = None
    """Where a READ's data may be placed as it arrives."""


@dataclass(slots=True)
class Response:
    """A message that came back; `message` is all of it, header included."""

    header: Header
    message: memoryview
    connection: Connection

    @property
    def status(self) -> int:
        return self.header.status

    def expect(self, *accepted: int) -> Response:
        """Itself, if the status is SUCCESS or one of these; StatusError otherwise."""
        status = self.header.status
        if status == 0 or status in accepted:
            return self
        try:
            data: Buffer = ErrorResponse.parse(self.message).error_data
        except Malformed:
            data = b""
        raise StatusError(status, bytes(data), name_of(self.header.command))


@dataclass(slots=True)
class InFlight:
    """A request that was sent and whose final response has not come."""

    answer: asyncio.Future[Response]
    header: Header
    sent: list[Buffer]
    """The message as it went out, for the preauthentication hash; unsealed."""
    signer: Signer | None
    """Verifies the response; None: nobody does, or whoever awaits it."""
    sealed: bool
    charge: int
    async_id: int | None = None
    """Given by an interim response; names the request to CANCEL."""
    late: Callable[[], None] | None = None
    """Called when the response comes after whoever awaited the answer was cancelled."""
    into: PoolRange | None = None
    placed: int = 0
    """Bytes of the response's data that lie in `into`, and not in the message."""


@dataclass(slots=True)
class Protection:
    """How a request goes out: plain, signed, or sealed for a session."""

    signer: Signer | None = None
    cipher: Cipher | None = None
    verify: bool = True
    """Whether the connection verifies the response with `signer`."""


PLAIN = Protection()


class Connection:
    """SMB2 over one channel. Belongs to the channel's asyncio loop."""

    def __init__(self, channel: Channel, options: Options) -> None:
        self.channel = channel
        self.options = options
        self.negotiated: Negotiated
        """What NEGOTIATE agreed on."""
        self.preauth = PreauthHash()
        self.credits = Credits(options.credits)
        self.ciphers: dict[int, Cipher] = {}
        """By SessionId, to open what servers seal."""
        self.unsolicited: deque[Response] = deque(maxlen=UNSOLICITED_MAX)
        """Breaks, and whatever else answers no request."""
        self.on_lost: list[Callable[[Connection], None]] = []
        """Called once when the connection has ended."""
        self.lost: ChannelClosed | None = None
        self._says_charge = False
        """CreditCharge is 0 in 2.0.2, and before anything is agreed on."""
        self.multi_credit = False
        """Whether large requests cost more than one credit ([MS-SMB2] 3.2.4.1.5)."""
        self._in_flight: dict[int, InFlight] = {}
        self._held = False
        self._placing: PoolRange | None = None
        """Where the data of the message goes that is being received."""
        self._arrived: asyncio.Event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # -- life

    async def negotiate(self) -> None:
        """Agrees on dialect, limits and algorithms ([MS-SMB2] 3.2.5.2)."""
        self.channel.place_messages(self._place)
        self.channel.start(self._on_message, self._on_closed)
        if self.options.multi_protocol:
            await self._negotiate_multi_protocol()
        request = Request(Header(command=Command.NEGOTIATE), (offer(self.options).pack(),))
        sent = await self.send([request])
        response = (await sent[0].answer).expect()
        self.preauth.update(*sent[0].sent)
        self.preauth.update(response.message)
        self.negotiated = accept(self.options, NegotiateResponse.parse(response.message))
        self._says_charge = self.negotiated.dialect > Dialect.SMB_2_0_2
        large_mtu = bool(self.negotiated.capabilities & Capabilities.LARGE_MTU)
        self.multi_credit = self._says_charge and large_mtu

    async def _negotiate_multi_protocol(self) -> None:
        """The SMB1 NEGOTIATE takes MessageId 0; the answer is SMB2 ([MS-SMB2] 3.2.4.2.1)."""
        message = MultiProtocolNegotiate(("NT LM 0.12", smb1.SMB2_002, smb1.SMB2_WILDCARD)).pack()
        header = Header(command=Command.NEGOTIATE, message_id=await self.credits.take(1))
        entry = self._track(header, [message], 1, PLAIN)
        self.channel.send(message)
        response = NegotiateResponse.parse((await entry.answer).expect().message)
        if response.dialect_revision != Dialect.WILDCARD:
            raise Malformed(f"the server answers with dialect 0x{response.dialect_revision:04x}")

    async def close(self, words: str = "") -> None:
        """Ends the connection; who waits for a response is told at once."""
        self._end(words)
        await self.channel.wait_closed()

    def _end(self, words: str) -> None:
        self.channel.close(words)
        self._give_up()

    def _give_up(self) -> None:
        """Notices that the channel ends, even while the last transfers on it are awaited."""
        if self.channel.closed is not None:
            self._lose(self.channel.closed)

    @property
    def in_flight(self) -> int:
        """Requests whose final response has not come."""
        return len(self._in_flight)

    # -- out

    async def send(
        self, requests: Sequence[Request], protection: Protection = PLAIN
    ) -> list[InFlight]:
        """Sends one message, or several as a compound; gives back what will hold the answers."""
        charge = 0
        for request in requests:
            charge += request.charge
        message_id = await self.credits.take(charge)
        self._give_up()
        if self.lost is not None:
            raise ChannelClosed(self.lost.reason, self.lost.words)
        parts: list[Buffer] = []
        sent = []
        last = len(requests) - 1
        for position, request in enumerate(requests):
            header = request.header
            header.message_id = message_id
            header.credits = self.credits.ask(request.charge)
            header.credit_charge = request.charge if self._says_charge else 0
            message_id += request.charge
            message = self._message(request, protection, position < last)
            entry = self._track(header, message, request.charge, protection)
            entry.into = request.into
            sent.append(entry)
            parts += message
        self._send_parts(parts, requests[0].header.session_id, protection)
        return sent

    def _message(self, request: Request, protection: Protection, chained: bool) -> list[Buffer]:
        header = request.header
        body = list(request.parts)
        if chained:
            length = 64 + sum(len(part) for part in body)
            body.append(padding(length))
            header.next_command = length + len(body[-1])
        if protection.signer is None or protection.cipher is not None:
            return [header.pack(), *body]
        header.flags |= _SIGNED
        packed = header.pack()
        signature = protection.signer.sign((packed, *body))
        return [packed[:SIGNATURE_OFFSET] + signature, *body]

    def _track(
        self, header: Header, message: list[Buffer], charge: int, protection: Protection
    ) -> InFlight:
        sealed = protection.cipher is not None
        signer = protection.signer if protection.verify and not sealed else None
        answer: asyncio.Future[Response] = self._loop.create_future()
        entry = InFlight(answer, header, message, signer, sealed, charge)
        self._in_flight[header.message_id] = entry
        return entry

    def _send_parts(self, parts: list[Buffer], session_id: int, protection: Protection) -> None:
        if protection.cipher is not None:
            parts = [protection.cipher.seal(session_id, parts)]
        self.hold()
        self.channel.send(*parts)

    def hold(self) -> None:
        """What is sent in this turn of the loop leaves in one piece, at its end."""
        if not self._held:
            self._held = True
            self.channel.cork()
            self._loop.call_soon(self._let_go)

    def _let_go(self) -> None:
        self._held = False
        self.channel.uncork()

    def cancel(self, entry: InFlight, protection: Protection = PLAIN) -> None:
        """Asks for an end of a request; its final response still comes ([MS-SMB2] 3.2.4.24)."""
        header = Header(
            command=Command.CANCEL,
            message_id=entry.header.message_id,
            session_id=entry.header.session_id,
            tree_id=entry.header.tree_id,
        )
        if entry.async_id is not None:
            header.flags |= _ASYNC
            header.async_id = entry.async_id
        request = Request(header, (CancelRequest().pack(),))
        self._send_parts(self._message(request, protection, False), header.session_id, protection)

    # -- in

    def _place(self, begun: memoryview, length: int) -> memoryview | None:
        """Memory for the data of a plain, successful READ, whose response has begun like this."""
        if len(begun) < DATA_OFFSET or begun[:4] != PROTOCOL_ID:
            return None
        header = Header.parse(begun)
        entry = self._in_flight.get(header.message_id)
        if entry is None or entry.into is None or entry.answer.done():
            return None
        protected = entry.sealed or entry.signer is not None or header.is_signed
        plain = header.command == Command.READ and not header.status and not header.next_command
        count = length - DATA_OFFSET
        if protected or not plain or count != data_length(begun) or count > entry.into.length:
            return None
        entry.placed = count
        self._placing = entry.into
        self._placing.begin_transfer()
        return self._placing.view[:count]

    def _end_placing(self) -> None:
        if self._placing is not None:
            self._placing.end_transfer()
            self._placing = None

    def _on_message(self, message: memoryview) -> None:
        """Called by the channel for every message; what is malformed ends the connection."""
        self._end_placing()
        try:
            sealed = message[:4] == transform.PROTOCOL_ID
            if sealed:
                message = self._open(message)
            for part in split_compound(message):
                self._on_response(Header.parse(part), part, sealed)
        except Malformed as error:
            self._end(f"the server sent what is no SMB2: {error}")

    def _open(self, message: memoryview) -> memoryview:
        session_id = transform.TransformHeader.parse(message).session_id
        cipher = self.ciphers.get(session_id)
        if cipher is None:
            raise Malformed(f"sealed for session 0x{session_id:x}, which is not ours")
        return cipher.open(message)

    def _on_response(self, header: Header, message: memoryview, sealed: bool) -> None:
        response = Response(header, message, self)
        entry = self._in_flight.get(header.message_id)
        if entry is None or header.message_id == UNSOLICITED:
            self.unsolicited.append(response)
            self._arrived.set()
            return
        if header.status == NtStatus.PENDING and header.is_async:
            entry.async_id = header.async_id
            self.credits.grant(0, header.credits)
            self._arrived.set()
            return
        del self._in_flight[header.message_id]
        self.credits.grant(entry.charge, header.credits)
        if entry.answer.done():
            if entry.late is not None:
                entry.late()
            return
        problem = self._problem(entry, response, sealed)
        if problem is None:
            entry.answer.set_result(response)
        else:
            entry.answer.set_exception(BadSignature(problem))

    def _problem(self, entry: InFlight, response: Response, sealed: bool) -> str | None:
        header = response.header
        if sealed:
            return None
        if entry.sealed and header.status not in _MAY_BE_UNSIGNED:
            return f"the answer to a sealed {name_of(header.command)} is not sealed"
        if entry.signer is None or header.status in _MAY_BE_UNSIGNED:
            return None
        if not header.is_signed:
            return f"the answer to a signed {name_of(header.command)} is not signed"
        if entry.signer.verify(response.message):
            return None
        return f"the answer to {name_of(header.command)} is signed wrongly"

    async def next_pending(self) -> InFlight:
        """A request that the server has said it works on, by an interim response; waits for one."""
        while True:
            for entry in self._in_flight.values():
                if entry.async_id is not None:
                    return entry
            await self._something_came()

    async def next_unsolicited(self) -> Response:
        """The next message that answers no request; waits for one."""
        while not self.unsolicited:
            await self._something_came()
        return self.unsolicited.popleft()

    async def _something_came(self) -> None:
        if self.lost is not None:
            raise self.lost
        self._arrived.clear()
        await self._arrived.wait()

    def _on_closed(self, closed: ChannelClosed) -> None:
        self._end_placing()
        self._lose(closed)

    def _lose(self, closed: ChannelClosed) -> None:
        if self.lost is not None:
            return
        self.lost = closed
        self.credits.close(closed)
        entries, self._in_flight = self._in_flight, {}
        for entry in entries.values():
            if not entry.answer.done():
                entry.answer.set_exception(ChannelClosed(closed.reason, closed.words))
        self._arrived.set()
        for callback in self.on_lost:
            callback(self)
