"""The client and the codec, judged by a foreign server; and ours, by the same tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

import pytest

from smbserver import access
from smbserver.client import Options, Session, bind_tcp, connect, interfaces
from smbserver.client.options import CIPHERS, DIALECTS, SIGNING_ALGORITHMS
from smbserver.wire.close import CloseRequest
from smbserver.wire.create import CreateRequest, CreateResponse
from smbserver.wire.create_contexts import (
    QUERY_MAXIMAL_ACCESS,
    QUERY_ON_DISK_ID,
    CreateContext,
    QueryMaximalAccessResponse,
    QueryOnDiskIdResponse,
    find_context,
)
from smbserver.wire.directory_information import CLASSES
from smbserver.wire.echo import EchoRequest
from smbserver.wire.file_id import ALL_ONES
from smbserver.wire.file_information import (
    FileAllInformation,
    FileBasicInformation,
    FileInformationClass,
    FileRenameInformation,
    FileStandardInformation,
    FileStreamInformation,
)
from smbserver.wire.filesystem_information import (
    FileFsAttributeInformation,
    FileFsFullSizeInformation,
    FileFsSectorSizeInformation,
    FileFsVolumeInformation,
    FsInformationClass,
)
from smbserver.wire.header import Command, Header
from smbserver.wire.lock import LockElement, LockFlags
from smbserver.wire.negotiate import Dialect
from smbserver.wire.query_info import InfoType, QueryInfoRequest, QueryInfoResponse
from smbserver.wire.read import ReadRequest
from smbserver.wire.security_descriptor import SecurityDescriptor
from smbserver.wire.status import NtStatus, StatusError
from tests.smbserver.client.conftest import Target

pytestmark = pytest.mark.interop


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def open_session(target: Target, **wishes: Any) -> Session:
    return await connect(
        "127.0.0.1",
        target.port,
        user=target.user,
        password=target.password,
        options=Options(**wishes),
    )


async def write_and_read(session: Session, share: str, length: int = 300_000) -> None:
    data, name = os.urandom(length), f"{uuid4()}.bin"
    tree = await session.tree(share)
    async with await tree.create(name) as file:
        assert await file.write(0, data) == length
        await file.flush()
        assert await file.read(0, length + 10) == data
        assert await file.read(length, 1) == b""
    await tree.delete(name)
    await tree.disconnect()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: f"{dialect:04x}")
@pytest.mark.parametrize("sign", [False, True], ids=["plain", "signed"])
def test_every_dialect_moves_a_file(target: Target, dialect: Dialect, sign: bool) -> None:
    async def work() -> None:
        async with await open_session(target, dialects=(dialect,), sign=sign) as session:
            assert session.dialect == dialect
            await write_and_read(session, "share")

    run(work())


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS, ids=lambda one: one.name)
def test_every_signing_algorithm(target: Target, algorithm: int) -> None:
    async def work() -> None:
        wishes = {"sign": True, "signing_algorithms": (algorithm,)}
        async with await open_session(target, **wishes) as session:
            assert session.channels[0].connection.negotiated.signing_algorithm == algorithm
            await write_and_read(session, "share")

    run(work())


@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda one: one.name)
def test_every_cipher(target: Target, cipher: int) -> None:
    async def work() -> None:
        async with await open_session(target, encrypt=True, ciphers=(cipher,)) as session:
            assert session.channels[0].connection.negotiated.cipher == cipher
            await write_and_read(session, "share")

    run(work())


@pytest.mark.parametrize("dialect", [Dialect.SMB_3_0, Dialect.SMB_3_0_2])
def test_encryption_before_3_1_1(target: Target, dialect: Dialect) -> None:
    async def work() -> None:
        async with await open_session(target, encrypt=True, dialects=(dialect,)) as session:
            await write_and_read(session, "share")

    run(work())


def test_a_share_that_requires_encryption(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target) as session:
            await write_and_read(session, "sealed")
            await write_and_read(session, "share")

    run(work())


@pytest.mark.parametrize("wishes", [{"spnego": False}, {"multi_protocol": True}], ids=str)
def test_other_beginnings(target: Target, wishes: dict[str, Any]) -> None:
    async def work() -> None:
        async with await open_session(target, **wishes) as session:
            assert session.dialect == Dialect.SMB_3_1_1
            await write_and_read(session, "share")

    run(work())


@pytest.mark.parametrize("dialect", [Dialect.SMB_3_0, Dialect.SMB_3_0_2, Dialect.SMB_3_1_1])
@pytest.mark.parametrize("protection", [{}, {"sign": True}, {"encrypt": True}], ids=str)
def test_a_second_channel_is_bound_and_used(
    target: Target, dialect: Dialect, protection: dict[str, Any]
) -> None:
    async def work() -> None:
        async with await open_session(target, dialects=(dialect,), **protection) as session:
            second = await bind_tcp(session, "127.0.0.1", target.port)
            first = session.channels[0]
            tree = await session.tree("share")
            async with await tree.create("bound") as file:
                with await session.buffer(100_000) as piece:
                    piece.view[:] = data = os.urandom(100_000)
                    assert await file.write_from(0, piece, channel=second) == 100_000
                    piece.view[:] = bytes(100_000)
                    assert await file.read_into(0, piece, channel=first) == 100_000
                    assert piece.view == data
                await first.connection.close("the first channel goes")
                assert await file.read(0, 200_000) == data
            assert session.channels == [second]
            assert session.channel_sequence == 1

    run(work())


def test_a_wrong_password_is_refused(target: Target) -> None:
    async def work() -> None:
        with pytest.raises(StatusError) as caught:
            await connect("127.0.0.1", target.port, user=target.user, password="wrong")
        assert caught.value.status == NtStatus.LOGON_FAILURE

    run(work())


def test_binding_with_a_wrong_password_leaves_the_session_alive(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target) as session:
            good = session.credentials
            session.credentials = type(good)(good.user, "wrong", good.host)
            with pytest.raises(StatusError) as caught:
                await bind_tcp(session, "127.0.0.1", target.port)
            assert caught.value.status == NtStatus.LOGON_FAILURE
            await write_and_read(session, "share")

    run(work())


def test_interfaces_are_discovered(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target) as session:
            offered = await interfaces(session)
            assert "127.0.0.1" in {str(one.address) for one in offered}
            assert all(one.link_speed > 0 for one in offered)

    run(work())


def test_information_of_a_file(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target) as session:
            tree = await session.tree("share")
            contexts = (CreateContext(QUERY_MAXIMAL_ACCESS), CreateContext(QUERY_ON_DISK_ID))
            async with await tree.create("Ä file \N{GRINNING FACE}", contexts=contexts) as file:
                await file.write(0, b"x" * 1000)
                raw = await file.query_info(FileInformationClass.FILE_ALL)
                everything = FileAllInformation.parse(raw)
                assert everything.name.file_name.endswith("Ä file \N{GRINNING FACE}")
                assert everything.pack() == raw
                raw = await file.query_info(FileInformationClass.FILE_STANDARD)
                standard = FileStandardInformation.parse(raw)
                assert standard.end_of_file == 1000
                assert not standard.directory
                raw = await file.query_info(FileInformationClass.FILE_STREAM)
                (stream,) = FileStreamInformation.parse_all(raw)
                assert (stream.stream_name, stream.stream_size) == ("::$DATA", 1000)
                raw = await file.query_info(0, InfoType.SECURITY, additional_information=7)
                descriptor = SecurityDescriptor.parse(raw)
                assert descriptor.owner is not None
                assert descriptor.dacl is not None
                assert descriptor.dacl.aces
                assert SecurityDescriptor.parse(descriptor.pack()) == descriptor
                answered = file.created.create_contexts
                maximal = find_context(answered, QUERY_MAXIMAL_ACCESS)
                on_disk = find_context(answered, QUERY_ON_DISK_ID)
                assert maximal is not None
                assert on_disk is not None
                most = QueryMaximalAccessResponse.parse(maximal.data)
                assert most.maximal_access & access.READ_DATA
                assert QueryOnDiskIdResponse.parse(on_disk.data).disk_file_id

    run(work())


def test_information_is_set(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target) as session:
            tree = await session.tree("share")
            async with await tree.create("before") as file:
                await file.truncate(12345)
                times = FileBasicInformation(0, 0, 132_000_000_000_000_000, 0, 0)
                await file.set_info(FileInformationClass.FILE_BASIC, times.pack())
                rename = FileRenameInformation("after", replace_if_exists=True)
                await file.set_info(FileInformationClass.FILE_RENAME, rename.pack())
            assert (target.path / "after").stat().st_size == 12345
            async with await tree.create("after") as file:
                raw = await file.query_info(FileInformationClass.FILE_BASIC)
                basic = FileBasicInformation.parse(raw)
                assert basic.last_write_time == 132_000_000_000_000_000
            await tree.delete("after")

    run(work())


def test_information_of_the_volume(target: Target) -> None:
    kinds = {
        FsInformationClass.FILE_FS_VOLUME: FileFsVolumeInformation,
        FsInformationClass.FILE_FS_ATTRIBUTE: FileFsAttributeInformation,
        FsInformationClass.FILE_FS_FULL_SIZE: FileFsFullSizeInformation,
        FsInformationClass.FILE_FS_SECTOR_SIZE: FileFsSectorSizeInformation,
    }

    async def work() -> None:
        async with await open_session(target) as session:
            tree = await session.tree("share")
            async with await tree.open_directory() as root:
                for number, kind in kinds.items():
                    raw = await root.query_info(number, InfoType.FILESYSTEM)
                    assert kind.parse(raw).pack() == raw

    run(work())


def test_a_directory_is_listed_in_every_class(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target) as session:
            tree = await session.tree("share")
            await tree.make_directory("many")
            names = {f"file {number:03}" for number in range(200)}
            for name in names:
                await (await tree.create(rf"many\{name}")).close()
            for information_class in CLASSES - {FileInformationClass.FILE_ID_EXTD_DIRECTORY}:
                async with await tree.open_directory("many") as directory:
                    found = [
                        entry.file_name
                        async for entry in directory.list(
                            information_class=information_class, length=4096
                        )
                    ]
                assert sorted(found) == sorted(names | {".", ".."})
            for name in names:
                await tree.delete(rf"many\{name}")
            await tree.delete("many", directory=True)
            assert not (target.path / "many").exists()

    run(work())


def test_a_related_compound(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target, sign=True) as session:
            tree = await session.tree("share")
            create = CreateRequest("", access.READ_ATTRIBUTES)
            query = QueryInfoRequest(InfoType.FILE, FileInformationClass.FILE_ALL, ALL_ONES)
            responses = await session.compound(
                (Command.CREATE, create.pack()),
                (Command.QUERY_INFO, query.pack()),
                (Command.CLOSE, CloseRequest(ALL_ONES).pack()),
                tree=tree,
            )
            assert [response.status for response in responses] == [0, 0, 0]
            assert CreateResponse.parse(responses[0].message).file_id != ALL_ONES
            output = QueryInfoResponse.parse(responses[1].message).output_buffer
            assert FileAllInformation.parse(output).standard.directory

    run(work())


def test_many_requests_in_flight_use_the_credits(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target, credits=16) as session:
            echo = EchoRequest().pack()
            await asyncio.gather(*(session.request(Command.ECHO, echo) for _ in range(500)))
            account = session.channels[0].connection.credits
            assert account.waited > 0
            assert account.available > 0

    run(work())


def test_an_error_keeps_its_status(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target) as session:
            tree = await session.tree("share")
            with pytest.raises(StatusError) as caught:
                await tree.open_directory("no such folder")
            assert caught.value.status == NtStatus.OBJECT_NAME_NOT_FOUND
            body = ReadRequest(ALL_ONES, 0, 10).pack()
            sent = await session.send(Header(command=Command.READ), body, tree=tree)
            assert (await sent.answer).status == NtStatus.FILE_CLOSED

    run(work())


def test_a_lock_that_waits_can_be_cancelled(target: Target) -> None:
    async def work() -> None:
        async with await open_session(target) as session:
            tree, channel = await session.tree("share"), session.channels[0]
            whole = LockElement(0, 100, LockFlags.EXCLUSIVE_LOCK)
            async with await tree.create("locked") as one, await tree.create("locked") as other:
                flags = LockFlags.EXCLUSIVE_LOCK | LockFlags.FAIL_IMMEDIATELY
                await one.lock(LockElement(0, 100, flags))
                waiting = asyncio.ensure_future(other.lock(whole))
                session.cancel(await channel.connection.next_pending(), channel)
                with pytest.raises(StatusError) as caught:
                    await waiting
                assert caught.value.status == NtStatus.CANCELLED
            await tree.delete("locked")

    run(work())
