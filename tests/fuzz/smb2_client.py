"""Sends what the grammar makes to a live server, and judges what comes back.

Every request must be answered, by a final or an interim response, or its connection must end. Whether the server
has lost something by it (processes, descriptors, files beside the share) is judged by the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections import Counter, deque
from dataclasses import dataclass, field

from smbdirect.channel_end import ChannelClosed
from smbserver import client
from smbserver.client.connection import PLAIN, BadSignature, InFlight, Protection, Request
from smbserver.own_server import OwnServer
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.status import NtStatus, StatusError
from tests.fuzz import smb2_grammar as grammar
from tests.fuzz.smb2_grammar import Source
from tests.sessions import connect

PATIENCE = 60.0
"""Seconds until a request must have been answered; a CREATE in a chain waits 35 for an oplock that stays."""

BATCH = 24
"""Requests that are under way together."""

MAX_FILES = 48
"""Opens that are kept; older ones are closed."""

REMEMBERED = 60
"""Messages that are told when something goes wrong."""

DIALECTS = client.options.DIALECTS
OLDER = tuple((one,) for one in DIALECTS[:-1])
"""What a session may speak instead of the newest dialect."""

FOLDERS = ("dir", "dir\\x", "first")
FILES = ("first", "first:stream")
PIPES = ("srvsvc",)
"""What a new session opens before anything goes wrong."""

_FILE_ID = struct.Struct("<QQ")
_CREATE_FILE_ID = slice(grammar.HEADER + 64, grammar.HEADER + 80)
_RESUME_KEY = slice(grammar.HEADER + 48, grammar.HEADER + 72)
_FLAGS = (
    0,
    0,
    0,
    0,
    HeaderFlags.REPLAY_OPERATION,
    HeaderFlags.DFS_OPERATIONS,
    HeaderFlags.ASYNC_COMMAND,
)


class Unanswered(Exception):
    """The server owes a response."""


@dataclass
class Fuzzer:
    """One client, of one ClientGUID."""

    server: OwnServer
    seed: int
    guid: bytes
    rdma: bool = False
    source: Source = field(init=False)
    sent: int = 0
    """Requests, those of compounds one by one."""
    seen: Counter[str] = field(default_factory=Counter)
    """How often each status came; "ended": connections that the server ended."""
    trees: list[int] = field(default_factory=list)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    session: client.Session | None = None
    logged_off: bool = False
    """The session has gone the way of its messages."""

    def __post_init__(self) -> None:
        self.source = Source(random.Random(self.seed))

    async def run(self, count: int) -> None:
        """Send so many requests. Raises Unanswered."""
        goal = self.sent + count
        while self.sent < goal:
            kind = self.source.random.random()
            if kind < 0.88:
                await self._batch()
            elif kind < 0.90:
                await self._raw_message()
            else:
                await self._stranger()
        await self.leave()

    async def leave(self) -> None:
        """End the session, if there is one."""
        session, self.session = self.session, None
        if session is not None:
            with contextlib.suppress(ChannelClosed, BadSignature, StatusError):
                await session.close()

    # sessions

    async def _session(self) -> client.Session:
        """The session, a new one where the last is no more."""
        session = self.session
        if session is not None and session.channels and not self.logged_off:
            return session
        await self.leave()
        self.logged_off = False
        self.trees.clear()
        self.source.files.clear()
        dialects = DIALECTS if self.rdma or self.source.maybe(0.5) else self.source.pick(OLDER)
        encrypt = dialects is DIALECTS and self.source.maybe(0.2)
        control = self.server.proxy_path if self.rdma else None
        self.session = await connect(
            self.server, control, client_guid=self.guid, dialects=dialects, encrypt=encrypt
        )
        self.seen["sessions"] += 1
        for name, opened in (("share", FOLDERS), ("cached", FILES), ("IPC$", PIPES)):
            tree = await self.session.tree(name)
            self.trees.append(tree.id)
            for one in opened:
                with contextlib.suppress(StatusError):  # what was sent before may stand in the way
                    file = await tree.create(one)
                    self.source.files.append((_FILE_ID.pack(*file.file_id), tree.id))
        return self.session

    # requests

    async def _batch(self) -> None:
        session = await self._session()
        channel = self.source.pick(session.channels)
        protection = channel.usual if self.source.maybe(0.8) else channel.signed
        under_way: list[InFlight] = []
        try:
            while len(under_way) < BATCH:
                requests = self._requests(session)
                for entry in await channel.connection.send(requests, protection):
                    entry.answer.add_done_callback(_forget)
                    under_way.append(entry)
            await self._answers(under_way)
        except ChannelClosed:
            self.seen["ended"] += 1
        await self._tidy(channel, protection)

    def _requests(self, session: client.Session) -> list[Request]:
        """One, or a compound."""
        length = 1 if self.source.maybe(0.85) else self.source.random.randrange(2, 6)
        return [self._request(session, position) for position in range(length)]

    def _request(self, session: client.Session, position: int) -> Request:
        source = self.source
        number = grammar.command(source)
        if number == grammar.CANCEL:
            number = Command.ECHO
        body = grammar.body(source, number)
        flags = int(source.pick(_FLAGS))
        if position and source.maybe(0.8):
            flags |= HeaderFlags.RELATED_OPERATIONS
        header = Header(
            command=number,
            flags=flags,
            session_id=session.id if source.maybe(0.995) else source.number(64),
            tree_id=self._tree(),
            status=source.number(16, 0),
        )
        self.sent += 1
        self.recent.append(f"{number:#x} flags {flags:#x} {body.hex()}")
        return Request(header, (body,), charge=source.number(2, 1) or 1)

    def _tree(self) -> int:
        """Of the open that the body names; of any other now and then."""
        tree = self.source.tree
        if tree is not None and self.source.maybe(0.98):
            return tree
        return self.source.pick(self.trees) if self.source.maybe(0.98) else 0xFFFF

    async def _answers(self, under_way: list[InFlight]) -> None:
        """Wait until all are answered, be it by an interim response."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        for entry in under_way:
            while not entry.answer.done() and entry.async_id is None:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise Unanswered(f"{entry.header} {entry.sent[1:]}: {self.story()}")
                await asyncio.wait([entry.answer], timeout=min(left, 0.05))
                await self._acknowledge()
            if entry.answer.done():
                self._note(entry)
            else:
                self.seen["pending"] += 1

    async def _acknowledge(self) -> None:
        """Give back what the server asks for, or requests would wait for it ([MS-SMB2] 2.2.23, 2.2.24)."""
        for channel in self.session.channels if self.session is not None else ():
            connection = channel.connection
            while connection.unsolicited:
                told = connection.unsolicited.popleft()
                if told.header.command != Command.OPLOCK_BREAK:
                    continue
                body, tree = bytes(told.message[grammar.HEADER :]), self.trees[1:2]
                if body[:1] == b"\x18":
                    body = grammar.u16(24) + bytes(6) + body[8:24]
                else:
                    body = grammar.u16(36) + bytes(6) + body[8:24] + body[28:32] + bytes(8)
                header = Header(
                    command=Command.OPLOCK_BREAK,
                    session_id=self._id(),
                    tree_id=tree[0] if tree else 0,
                )
                (sent,) = await connection.send([Request(header, (body,))], channel.usual)
                sent.answer.add_done_callback(_forget)

    def _note(self, entry: InFlight) -> None:
        error = entry.answer.exception()
        if isinstance(error, BadSignature):
            self.seen["unsigned answers"] += 1
            return
        if error is not None:
            raise error
        response = entry.answer.result()
        self.seen[f"{response.status:#010x}"] += 1
        command, message = entry.header.command, response.message
        gone = response.status == NtStatus.USER_SESSION_DELETED or command == Command.LOGOFF
        if gone and entry.header.session_id == self._id():
            self.logged_off = True
        if response.status:
            return
        if command == Command.CREATE:
            self.source.files.append((bytes(message[_CREATE_FILE_ID]), response.header.tree_id))
        elif command == Command.CLOSE:
            self.source.forget(entry.sent[1])
        elif command == Command.TREE_CONNECT:
            self.trees.append(response.header.tree_id)
        elif command == Command.TREE_DISCONNECT and response.header.tree_id in self.trees:
            self.trees.remove(response.header.tree_id)
            self.logged_off = not self.trees
        elif command == Command.IOCTL and len(message) >= _RESUME_KEY.stop:
            self.source.resume_keys[:] = [bytes(message[_RESUME_KEY])]

    async def _tidy(self, channel: client.SessionChannel, protection: Protection) -> None:
        """Cancel what is pending, close what was opened long ago, acknowledge breaks."""
        connection, source = channel.connection, self.source
        try:
            for entry in list(connection._in_flight.values()):
                if entry.async_id is not None and source.maybe(0.7):
                    connection.cancel(entry, protection)
            while len(source.files) > MAX_FILES:
                file, tree = source.files.pop(0)
                header = Header(command=Command.CLOSE, session_id=self._id(), tree_id=tree)
                close = Request(header, (b"\x18\0\0\0\0\0\0\0" + file,))
                (entry,) = await connection.send([close], protection)
                entry.answer.add_done_callback(_forget)
        except ChannelClosed:
            self.seen["ended"] += 1

    def _id(self) -> int:
        return self.session.id if self.session is not None else 0

    # what is no request

    async def _raw_message(self) -> None:
        """A whole message with its header distorted, which mostly costs the connection."""
        session = await self._session()
        channel = self.source.pick(session.channels)
        request = self._request(session, 0)
        message = request.header.pack() + bytes(request.parts[0])
        if self.source.maybe(0.3):
            message = b"\xfdSMB" + self.source.blob(48) + message
        channel.connection.channel.send(grammar.distort(self.source, message))
        self.recent.append(f"raw {message.hex()}")
        echo = Request(Header(command=Command.ECHO, session_id=session.id), (b"\4\0\0\0",))
        try:
            (entry,) = await channel.connection.send([echo], PLAIN)
            await self._answers([entry])
        except ChannelClosed:
            self.seen["ended"] += 1

    async def _stranger(self) -> None:
        """Somebody who has not authenticated: any messages, until the server has enough."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        well = self.source.maybe(0.5)
        try:
            for position in range(self.source.random.randrange(1, 8)):
                number = self.source.pick((0, 0, 1, 1, 3, 5, 0x0D)) if position else 0
                body = grammar.PRODUCTIONS[number](self.source)
                if not (well and position == 0) and self.source.maybe(0.5):
                    body = grammar.distort(self.source, body)
                header = Header(command=number, message_id=position, credits=10, credit_charge=1)
                message = header.pack() + body
                if self.source.maybe(0.05):
                    message = self.source.blob(300)
                self.sent += 1
                self.recent.append(f"stranger {message.hex()}")
                writer.write(len(message).to_bytes(4, "big") + message)
                await writer.drain()
                async with asyncio.timeout(PATIENCE):
                    head = await reader.readexactly(4)
                    answer = await reader.readexactly(int.from_bytes(head, "big"))
                self.seen[f"stranger {int.from_bytes(answer[8:12], 'little'):#010x}"] += 1
        except (asyncio.IncompleteReadError, OSError):
            self.seen["strangers ended"] += 1
        except TimeoutError:
            raise Unanswered(f"a stranger: {self.story()}") from None
        finally:
            writer.close()

    def story(self) -> str:
        """How to see it again."""
        listed = "\n".join(self.recent)
        return f"seed {self.seed}, after {self.sent} requests, the last of which were\n{listed}"


def _forget(answer: asyncio.Future[client.Response]) -> None:
    if not answer.cancelled():
        answer.exception()
