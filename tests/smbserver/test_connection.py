from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed
from smbserver import client, connection
from smbserver.client.connection import InFlight, Request
from smbserver.wire.change_notify import ChangeNotifyRequest
from smbserver.wire.close import CloseRequest
from smbserver.wire.create import CreateRequest
from smbserver.wire.file_id import ALL_ONES
from smbserver.wire.flush import FlushRequest
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.ioctl import CtlCode, IoctlRequest
from smbserver.wire.lock import LockElement, LockFlags, LockRequest
from smbserver.wire.negotiate import Dialect, NegotiateRequest
from smbserver.wire.oplock_break import LeaseBreakAcknowledgment, OplockBreak
from smbserver.wire.query_directory import QueryDirectoryRequest
from smbserver.wire.query_info import QueryInfoRequest
from smbserver.wire.read import ReadRequest
from smbserver.wire.session_setup import SessionSetupRequest
from smbserver.wire.set_info import SetInfoRequest
from smbserver.wire.status import NtStatus, StatusError
from smbserver.wire.transform import TransformHeader
from smbserver.wire.tree_connect import TreeConnectRequest
from smbserver.wire.write import WriteRequest
from tests.effort import tries
from tests.smbserver.in_process import InProcess, in_loop, serving

ECHO = b"\4\0\0\0"


async def ends(channel: Channel) -> None:
    """Fails unless the server ends the connection."""
    with pytest.raises(ChannelClosed):
        while True:
            await channel.receive()


async def still_serves(running: InProcess) -> None:
    session = await running.session()
    tree = await session.tree("share")
    async with await tree.create("alive") as file:
        await file.write(0, b"alive")
        assert await file.read(0, 5) == b"alive"
    await session.close()


NEGOTIATE = Header(command=Command.NEGOTIATE, credits=1).pack() + NegotiateRequest((0x0210,)).pack()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xfeSMB",
        bytes(64),
        b"\xffSMB" + bytes(40),
        Header(command=Command.ECHO).pack() + ECHO,
        Header(command=Command.NEGOTIATE, flags=HeaderFlags.SERVER_TO_REDIR).pack() + ECHO,
        Header(command=Command.NEGOTIATE, message_id=7).pack() + ECHO,
        Header(command=Command.NEGOTIATE, next_command=12).pack() + ECHO,
        TransformHeader(bytes(16), bytes(16), 64, 1).pack() + bytes(64),
    ],
)
@in_loop
async def test_first_messages_that_end_the_connection(tmp_path: Path, message: bytes) -> None:
    async with serving(tmp_path) as running:
        channel = running.channel()
        channel.send(message)
        await ends(channel)
        assert running.service.counters["connections_ended_malformed"] == 1
        await still_serves(running)


@pytest.mark.parametrize(("message_id", "charge"), [(0, 1), (999999, 1), (1, 60000)])
@in_loop
async def test_message_ids_not_granted_end_the_connection(
    tmp_path: Path, message_id: int, charge: int
) -> None:
    async with serving(tmp_path) as running:
        channel = running.channel()
        channel.send(NEGOTIATE)
        await channel.receive()
        header = Header(credit_charge=charge, command=Command.ECHO, message_id=message_id)
        channel.send(header.pack() + ECHO)
        await ends(channel)


@in_loop
async def test_credits_are_granted_as_asked_up_to_the_limit(tmp_path: Path) -> None:
    async with serving(tmp_path, "smb2 max credits = 100") as running:
        channel = running.channel()
        channel.send(NEGOTIATE)
        assert Header.parse(await channel.receive()).credits == 1
        header = Header(credit_charge=1, command=Command.ECHO, message_id=1, credits=500)
        channel.send(header.pack() + ECHO)
        assert Header.parse(await channel.receive()).credits == 100


@in_loop
async def test_a_message_before_authentication_is_small(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        channel = running.channel()
        channel.send(NEGOTIATE)
        await channel.receive()
        channel.send(bytes(connection.UNAUTHENTICATED_LIMIT + 1))
        await ends(channel)


@pytest.mark.parametrize("dialect", client.options.DIALECTS)
@in_loop
async def test_signing_required(tmp_path: Path, dialect: Dialect) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(client.Options((dialect,), sign=True))
        await session.tree("share")
        channel = session.channels[0]
        header = Header(command=Command.TREE_CONNECT, session_id=session.id)
        body = TreeConnectRequest(r"\\s\share").pack()
        (sent,) = await channel.connection.send([Request(header, (body,))])
        assert (await sent.answer).status == NtStatus.ACCESS_DENIED


@pytest.mark.parametrize("dialect", client.options.DIALECTS)
@in_loop
async def test_a_wrong_signature_is_refused(tmp_path: Path, dialect: Dialect) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(client.Options((dialect,)))
        channel = session.channels[0]
        header = Header(command=Command.TREE_CONNECT, session_id=session.id)
        header.flags, header.signature = HeaderFlags.SIGNED, b"s" * 16
        body = TreeConnectRequest(r"\\s\share").pack()
        (sent,) = await channel.connection.send([Request(header, (body,))])
        assert (await sent.answer).status == NtStatus.ACCESS_DENIED
        assert running.service.counters["bad_signatures"] == 1


@in_loop
async def test_plain_requests_of_an_encrypted_session_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, "smb encrypt = required") as running:
        session = await running.session()
        await session.tree("share")
        header = Header(command=Command.TREE_CONNECT, session_id=session.id)
        body = TreeConnectRequest(r"\\s\share").pack()
        (sent,) = await session.channels[0].connection.send([Request(header, (body,))])
        assert (await sent.answer).status == NtStatus.ACCESS_DENIED


@in_loop
async def test_a_sealed_message_speaks_for_its_session_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        options = client.Options(encrypt=True, client_guid=b"g" * 16)
        one, other = await running.session(options), await running.session(options)
        await one.bind(other.channels[0].connection)
        header = Header(command=Command.TREE_CONNECT, session_id=other.id)
        body = TreeConnectRequest(r"\\s\share").pack()
        sealing = one.channels[-1]
        request = Request(header, (body,))
        message = sealing.connection._message(request, client.connection.PLAIN, False)
        header.message_id = await sealing.connection.credits.take(1)
        message[0] = header.pack()
        assert one.cipher is not None
        sealing.connection.channel.send(one.cipher.seal(one.id, message))
        answer = await sealing.connection.next_unsolicited()
        assert answer.status == NtStatus.USER_SESSION_DELETED


@in_loop
async def test_damaged_seal_ends_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(client.Options(encrypt=True))
        assert session.cipher is not None
        sealed = bytearray(session.cipher.seal(session.id, [bytes(64)]))
        sealed[-1] ^= 1
        channel = session.channels[0].connection.channel
        channel.send(bytes(sealed))
        await channel.wait_closed()
        assert running.service.counters["connections_ended_malformed"] == 1


@in_loop
async def test_who_only_negotiates_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        monkeypatch.setattr(connection, "AUTHENTICATION_DEADLINE", 0.0)
        channel = running.channel()
        channel.send(NEGOTIATE)
        await ends(channel)
        assert running.service.counters["connections_ended_unauthenticated"] == 1
        await session.tree("share")


# Flow control


@in_loop
async def test_reading_stops_while_answers_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_WAITING_BYTES", 1 << 20)
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        data = bytes(range(256)) * 4096
        file = await tree.create("file")
        await file.write(0, data)
        channel = session.channels[0]
        channel.connection.channel.pause_reading()
        reads = []
        for _ in range(20):
            header = Header(command=Command.READ, session_id=session.id, tree_id=tree.id)
            body = ReadRequest(file.file_id, 0, len(data)).pack()
            reads += await channel.connection.send([Request(header, (body,), 16)], channel.usual)
        (ours,) = running.service.connections
        for _ in range(100):
            await asyncio.sleep(0)
        assert ours._holding
        assert ours.channel.waiting_bytes < 4 << 20
        channel.connection.channel.resume_reading()
        for one in reads:
            assert (await one.answer).status == NtStatus.SUCCESS
        while ours._holding:
            await asyncio.sleep(0)


@in_loop
async def test_reading_stops_while_too_much_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_REQUESTS", 2)
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        async with await tree.create("file") as file:
            await file.write(0, bytes(8 << 20), depth=16)
            assert len(await file.read(0, 8 << 20, depth=16)) == 8 << 20
        (ours,) = running.service.connections
        assert not ours._holding


@in_loop
async def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_WAITING", 2)
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        folder = await tree.open_directory("")
        sent = []
        for _ in range(3):
            header = Header(command=Command.CHANGE_NOTIFY, session_id=session.id, tree_id=tree.id)
            body = ChangeNotifyRequest(folder.file_id, 1).pack()
            channel = session.channels[0]
            sent += await channel.connection.send([Request(header, (body,))], channel.usual)
        assert (await sent[2].answer).status == NtStatus.INSUFFICIENT_RESOURCES
        assert not sent[0].answer.done()


# Malformed requests

BODIES: list[tuple[int, bytes]] = [
    (Command.SESSION_SETUP, SessionSetupRequest(b"NTLMSSP\0").pack()),
    (Command.TREE_CONNECT, TreeConnectRequest(r"\\s\share").pack()),
    (Command.CREATE, CreateRequest("file", 0x001F01FF, create_disposition=3).pack()),
    (Command.CLOSE, CloseRequest(ALL_ONES).pack()),
    (Command.READ, ReadRequest(ALL_ONES, 0, 100).pack()),
    (Command.WRITE, WriteRequest(ALL_ONES, 0, b"data").pack()),
    (Command.LOCK, LockRequest(ALL_ONES, (LockElement(0, 1, 0x12),)).pack()),
    (Command.IOCTL, IoctlRequest(0x001401FC, max_output_response=1000).pack()),
    (Command.QUERY_DIRECTORY, QueryDirectoryRequest(37, ALL_ONES, "*").pack()),
    (Command.CHANGE_NOTIFY, ChangeNotifyRequest(ALL_ONES, 1).pack()),
    (Command.QUERY_INFO, QueryInfoRequest(1, 5, ALL_ONES, 1024).pack()),
    (Command.SET_INFO, SetInfoRequest(1, 20, ALL_ONES, bytes(8)).pack()),
    (Command.OPLOCK_BREAK, OplockBreak(ALL_ONES, 0).pack()),
    (Command.OPLOCK_BREAK, LeaseBreakAcknowledgment(bytes(16), 0).pack()),
    (Command.ECHO, ECHO),
    (Command.CANCEL, ECHO),
]

damage = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=5)


@tries(60)
@given(
    requests=st.lists(
        st.tuples(st.sampled_from(BODIES), damage, st.booleans(), st.integers(0, 300)),
        min_size=1,
        max_size=5,
    )
)
def test_damaged_requests(
    tmp_path: Path, requests: list[tuple[tuple[int, bytes], list[tuple[int, int]], bool, int]]
) -> None:
    """After a good CREATE in the same chain come requests with bytes changed and ends cut off."""

    async def body() -> None:
        async with serving(tmp_path) as running:
            session = await running.session()
            tree = await session.tree("share")
            await _send_damaged(session, tree, requests)
            await still_serves(running)
            assert not running.service.counters["internal_errors"]

    asyncio.run(asyncio.wait_for(body(), 20))


async def _send_damaged(
    session: client.Session,
    tree: client.Tree,
    requests: list[tuple[tuple[int, bytes], list[tuple[int, int]], bool, int]],
) -> None:
    create = CreateRequest("file", 0x001F01FF, create_disposition=3, share_access=7).pack()
    header = Header(command=Command.CREATE, session_id=session.id, tree_id=tree.id)
    made = [Request(header, (create,))]
    for (command, content), changes, related, cut in requests:
        damaged = bytearray(content)
        for at, value in changes:
            damaged[at % len(damaged)] = value
        flags = HeaderFlags.RELATED_OPERATIONS if related else 0
        header = Header(command=command, flags=flags, session_id=session.id, tree_id=tree.id)
        made.append(Request(header, (bytes(damaged[: max(len(content) - cut, 0)]),)))
    channel = session.channels[0]
    for sent in await channel.connection.send(made, channel.usual):
        sent.answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
    last = Request(Header(command=Command.ECHO, session_id=session.id), (ECHO,))
    try:
        (sent,) = await channel.connection.send([last])
        await sent.answer
    except (ChannelClosed, StatusError):
        pass


@tries(60)
@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from(["bare", "header", "transform"]),
)
def test_arbitrary_messages(
    tmp_path: Path, messages: list[bytes], negotiated: bool, begin: str
) -> None:
    async def body() -> None:
        async with serving(tmp_path) as running:
            channel = running.channel()
            if negotiated:
                channel.send(NEGOTIATE)
                await channel.receive()
            for number, message in enumerate(messages, 1):
                header = Header(command=len(message) % 20, message_id=number, credits=5)
                seal = TransformHeader(bytes(16), bytes(16), len(message), number)
                begins = {"bare": b"", "header": header.pack(), "transform": seal.pack()}
                channel.send(begins[begin] + message)
            await still_serves(running)
            assert not running.service.counters["internal_errors"]

    asyncio.run(asyncio.wait_for(body(), 20))


@in_loop
async def test_inline_answers_that_an_rdma_peer_cannot_take_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        (ours,) = running.service.connections
        ours.channel.facts = dataclasses.replace(
            ours.channel.facts, transport="rdma", max_fragmented_send_size=128 << 10
        )
        async with await tree.create("file") as file:
            await file.write(0, bytes(1 << 20))
            assert len(await file.read(0, 100 << 10)) == 100 << 10
            with pytest.raises(StatusError) as error:
                await file.read(0, 1 << 20)
            assert error.value.status == NtStatus.INVALID_PARAMETER


@in_loop
async def test_what_comes_before_a_close_is_done_with_the_file_that_was_open(
    tmp_path: Path,
) -> None:
    """WRITE and FLUSH begin in a task of their own; a CLOSE in the same wake-up does not wait for that."""
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        files = [await tree.create(f"file {number}") for number in range(8)]
        connection = session.channels[0].connection
        sent = []
        for number, file in enumerate(files):
            data = b"%d" % number
            for command, body in (
                (Command.WRITE, WriteRequest(file.file_id, 0, data).pack()),
                (Command.FLUSH, FlushRequest(file.file_id).pack()),
                (Command.CLOSE, CloseRequest(file.file_id).pack()),
            ):
                header = Header(command=command, session_id=session.id, tree_id=tree.id)
                sent += await connection.send([Request(header, (body,))])
        for entry in sent:
            (await entry.answer).expect()
        written = [(tmp_path / "share" / f"file {number}").read_text() for number in range(8)]
        assert written == [str(number) for number in range(8)]
        assert running.service.counters["internal_errors"] == 0


@in_loop
async def test_tree_connects_leave_no_descriptor_behind(tmp_path: Path) -> None:
    def folders() -> int:
        links = Path("/proc/self/fd").iterdir()
        return sum(link.is_dir() and link.samefile(tmp_path / "share") for link in links)

    async with serving(tmp_path) as running:
        session = await running.session()
        gc.disable()  # what only the collector finds stays too long
        try:
            for _ in range(3):
                tree = await session.tree("share")
                assert folders() == 1
                folder = await tree.open_directory()
                header = Header(
                    command=Command.CHANGE_NOTIFY, session_id=session.id, tree_id=tree.id
                )
                body = ChangeNotifyRequest(folder.file_id, 0xFFF, 1000).pack()
                (sent,) = await session.channels[0].connection.send([Request(header, (body,))])
                await tree.disconnect()
                (await sent.answer).expect(NtStatus.NOTIFY_CLEANUP)
                await asyncio.sleep(0)
                assert folders() == 0
        finally:
            gc.enable()


@pytest.mark.parametrize("kind", [1, 2])
@in_loop
async def test_pipes_lie_in_no_file_system(tmp_path: Path, kind: int) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("IPC$")
        pipe = await tree.create("srvsvc")
        for number in range(80):
            query = QueryInfoRequest(kind, number, pipe.file_id, 1000).pack()
            change = SetInfoRequest(kind, number, pipe.file_id, bytes(24) + b"a\0").pack()
            for command, body in ((Command.QUERY_INFO, query), (Command.SET_INFO, change)):
                with contextlib.suppress(StatusError):
                    await session.request(command, body, tree=tree)
        assert running.service.counters["internal_errors"] == 0


@in_loop
async def test_a_lock_that_waited_is_not_taken_after_the_close(tmp_path: Path) -> None:
    """Nobody could give it back."""
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        holder, waiter = await tree.create("file"), await tree.create("file")
        connection = session.channels[0].connection
        element = LockElement(0, 10, LockFlags.EXCLUSIVE_LOCK)

        async def send(command: Command, body: bytes) -> InFlight:
            header = Header(command=command, session_id=session.id, tree_id=tree.id)
            (sent,) = await connection.send([Request(header, (body,))])
            return sent

        (
            await (await send(Command.LOCK, LockRequest(holder.file_id, (element,)).pack())).answer
        ).expect()
        waiting = await send(Command.LOCK, LockRequest(waiter.file_id, (element,)).pack())
        closing = [
            await send(Command.CLOSE, CloseRequest(one.file_id).pack()) for one in (waiter, holder)
        ]
        for sent in closing:
            (await sent.answer).expect()
        (await waiting.answer).expect(NtStatus.RANGE_NOT_LOCKED)
        async with await tree.create("file") as third:
            sent = await send(Command.LOCK, LockRequest(third.file_id, (element,)).pack())
            (await sent.answer).expect()


@in_loop
async def test_a_chain_does_not_use_what_was_closed_while_it_waited(tmp_path: Path) -> None:
    """FLUSH waits for a thread; the CLOSE comes by another message, and the rest of the chain finds nothing."""
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        file = await tree.create("file")
        connection = session.channels[0].connection

        def request(command: Command, body: bytes, flags: int = 0) -> Request:
            header = Header(command=command, session_id=session.id, tree_id=tree.id, flags=flags)
            return Request(header, (body,))

        related = int(HeaderFlags.RELATED_OPERATIONS)
        object_id = IoctlRequest(CtlCode.FSCTL_CREATE_OR_GET_OBJECT_ID, ALL_ONES).pack()
        chain = await connection.send(
            [
                request(Command.FLUSH, FlushRequest(file.file_id).pack()),
                request(Command.IOCTL, object_id, related),
                request(Command.QUERY_INFO, QueryInfoRequest(1, 5, ALL_ONES).pack(), related),
            ]
        )
        (closing,) = await connection.send(
            [request(Command.CLOSE, CloseRequest(file.file_id).pack())]
        )
        (await closing.answer).expect()
        (await chain[0].answer).expect()
        for one in chain[1:]:
            assert (await one.answer).status == NtStatus.FILE_CLOSED
        assert running.service.counters["internal_errors"] == 0
