from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Awaitable
from pathlib import Path

import pytest

from smbserver import client
from smbserver.auth.passdb import Passdb
from smbserver.client import connection as client_connection
from smbserver.client.session_setup import Credentials, authenticate
from smbserver.wire.header import Command, Header
from smbserver.wire.lock import LockElement, LockFlags
from smbserver.wire.negotiate import Dialect
from smbserver.wire.negotiate_contexts import EncryptionCipher, SigningAlgorithm
from smbserver.wire.session_setup import SessionFlags, SessionSetupFlags, SessionSetupRequest
from smbserver.wire.status import NtStatus, StatusError
from tests.smbserver.in_process import PASSWORD, USER, InProcess, echo, in_loop, serving

GMAC, CMAC, HMAC = (
    SigningAlgorithm.AES_GMAC,
    SigningAlgorithm.AES_CMAC,
    SigningAlgorithm.HMAC_SHA256,
)
GCM, CCM = EncryptionCipher.AES_128_GCM, EncryptionCipher.AES_128_CCM


def options(
    dialect: Dialect = Dialect.SMB_3_1_1,
    signing: SigningAlgorithm | None = None,
    cipher: EncryptionCipher = GCM,
    guid: bytes = b"g" * 16,
) -> client.Options:
    algorithms = () if signing is None else (signing,)
    return client.Options(
        (dialect,), client_guid=guid, ciphers=(cipher,), signing_algorithms=algorithms
    )


async def refused(
    running: InProcess,
    session: client.Session,
    offered: client.Options,
    credentials: Credentials | None = None,
) -> int:
    """The status of a refused binding; the session and its first channel must survive it."""
    connection = await running.connection(offered)
    with pytest.raises(StatusError) as error:
        await authenticate(
            connection,
            credentials or session.credentials,
            session_id=session.id,
            binding=session.authenticated.signer,
        )
    await echo(session.channels[0], session)
    return error.value.status


async def setup(
    connection: client.Connection, session_id: int, flags: int = 0, **protection: object
) -> client.Response:
    """One SESSION_SETUP with an empty token."""
    header = Header(command=Command.SESSION_SETUP, session_id=session_id)
    request = client_connection.Request(header, (SessionSetupRequest(b"", flags).pack(),))
    plain = client_connection.Protection(**protection)  # type: ignore[arg-type]
    (sent,) = await connection.send([request], plain)
    return await sent.answer


@pytest.mark.parametrize("dialect", [*client.options.DIALECTS])
@pytest.mark.parametrize("spnego", [True, False])
@in_loop
async def test_authenticate(tmp_path: Path, dialect: Dialect, spnego: bool) -> None:
    async with serving(tmp_path) as running:
        chosen = client.Options((dialect,), spnego=spnego)
        session = await running.session(chosen)
        assert session.flags == 0
        (ours,) = running.service.valid_sessions()
        assert ours.user is not None
        assert (ours.user.name, ours.dialect) == (USER, dialect)
        await session.close()
        assert not running.service.sessions


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("nobody", PASSWORD)])
@in_loop
async def test_wrong_credentials(tmp_path: Path, user: str, password: str) -> None:
    async with serving(tmp_path) as running:
        with pytest.raises(StatusError) as error:
            await running.session(user=user, password=password)
        assert error.value.status == NtStatus.LOGON_FAILURE
        assert not running.service.sessions
        assert running.service.counters["authentications_failed"] == 1


@in_loop
async def test_disabled_account(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        Passdb(tmp_path / "smbpasswd").set_disabled(USER, True)
        with pytest.raises(StatusError) as error:
            await running.session()
        assert error.value.status == NtStatus.ACCOUNT_DISABLED


@in_loop
async def test_guest_only_if_configured(tmp_path: Path) -> None:
    async with serving(tmp_path, "map to guest = bad user") as running:
        session = await running.session(client.Options(spnego=False), user="somebody")
        assert session.flags == SessionFlags.IS_GUEST
        with pytest.raises(StatusError) as error:
            await session.tree("share")
        assert error.value.status == NtStatus.ACCESS_DENIED
        with pytest.raises(StatusError):  # a wrong password of a known user makes no guest
            await running.session(client.Options(spnego=False), password="wrong")


@in_loop
async def test_encryption_required(tmp_path: Path) -> None:
    async with serving(tmp_path, "smb encrypt = required") as running:
        session = await running.session()
        assert session.flags == SessionFlags.ENCRYPT_DATA
        await session.tree("share")
        with pytest.raises(StatusError) as error:
            await running.session(client.Options((Dialect.SMB_2_1,)))
        assert error.value.status == NtStatus.ACCESS_DENIED


@in_loop
async def test_previous_session_ends(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        first = await running.session()
        connection = await running.connection()
        second = client.Session(connection, Credentials(USER, PASSWORD, "server"))
        await second.set_up(connection, previous_session_id=first.id)
        assert [one.id for one in running.service.valid_sessions()] == [second.id]
        with pytest.raises(StatusError) as error:
            await first.tree("share")
        assert error.value.status == NtStatus.USER_SESSION_DELETED


@in_loop
async def test_previous_session_of_another_user_stays(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        Passdb(tmp_path / "smbpasswd").set_password("bob", PASSWORD)
        first = await running.session()
        connection = await running.connection()
        second = client.Session(connection, Credentials("bob", PASSWORD, "server"))
        await second.set_up(connection, previous_session_id=first.id)
        await first.tree("share")


@in_loop
async def test_bind_and_lose_the_first_channel(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        second = await session.bind(await running.connection(session.options))
        tree = await session.tree("share")
        await echo(second, session)
        await session.channels[0].connection.close()
        third = await session.bind(await running.connection(session.options))
        await echo(third, session)
        async with await tree.create("file") as file:
            await file.write(0, b"data")
        await second.connection.close()
        await third.connection.close()


@in_loop
async def test_bound_session_ends_with_its_last_channel(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        await session.bind(await running.connection(session.options))
        first, second = session.channels
        await first.connection.close()
        await echo(second, session)
        assert len(list(running.service.valid_sessions())) == 1
        await second.connection.close()
        await (await running.connection()).close()  # a round trip later
        assert not running.service.sessions


@in_loop
async def test_logoff_ends_all_channels(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        second = await session.bind(await running.connection(session.options))
        request = client_connection.Request(
            Header(command=Command.LOGOFF, session_id=session.id), (b"\4\0\0\0",)
        )
        await session.channels[0].connection.send([request], session.channels[0].signed)
        echo_header = Header(command=Command.TREE_CONNECT, session_id=session.id)
        request = client_connection.Request(echo_header, (b"\x09\0\0\0\x48\0\0\0",))
        (sent,) = await second.connection.send([request])
        assert (await sent.answer).status == NtStatus.USER_SESSION_DELETED
        assert not second.connection.lost


@pytest.mark.parametrize(
    ("of_session", "of_connection", "status"),
    [
        (options(Dialect.SMB_2_1), options(Dialect.SMB_2_1), NtStatus.REQUEST_NOT_ACCEPTED),
        (options(Dialect.SMB_2_1), options(Dialect.SMB_3_0), NtStatus.INVALID_PARAMETER),
        (options(Dialect.SMB_3_0), options(Dialect.SMB_2_1), NtStatus.REQUEST_NOT_ACCEPTED),
        (options(Dialect.SMB_3_0), options(Dialect.SMB_3_0_2), NtStatus.INVALID_PARAMETER),
        (options(Dialect.SMB_3_0_2), options(Dialect.SMB_3_1_1), NtStatus.INVALID_PARAMETER),
        (options(cipher=GCM), options(cipher=CCM), NtStatus.INVALID_PARAMETER),
        (options(signing=CMAC), options(signing=GMAC), NtStatus.NOT_SUPPORTED),
        (options(signing=HMAC), options(signing=GMAC), NtStatus.NOT_SUPPORTED),
        (options(signing=GMAC), options(signing=CMAC), NtStatus.REQUEST_OUT_OF_SEQUENCE),
        (options(signing=GMAC), options(signing=HMAC), NtStatus.REQUEST_OUT_OF_SEQUENCE),
        (options(), options(guid=b"h" * 16), NtStatus.USER_SESSION_DELETED),
        (
            options(Dialect.SMB_3_0),
            options(Dialect.SMB_3_0_2, guid=b"h" * 16),
            NtStatus.INVALID_PARAMETER,
        ),
    ],
)
@in_loop
async def test_refused_bindings(
    tmp_path: Path, of_session: client.Options, of_connection: client.Options, status: NtStatus
) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(of_session)
        assert await refused(running, session, of_connection) == status


@pytest.mark.parametrize(("first", "second"), [(CMAC, HMAC), (HMAC, CMAC), (GMAC, GMAC)])
@in_loop
async def test_each_channel_signs_with_its_own_algorithm(
    tmp_path: Path, first: SigningAlgorithm, second: SigningAlgorithm
) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(options(signing=first))
        channel = await session.bind(await running.connection(options(signing=second)))
        await echo(channel, session)


@in_loop
async def test_bind_with_multichannel_off(tmp_path: Path) -> None:
    async with serving(tmp_path, "server multi channel support = no") as running:
        session = await running.session(options())
        status = await refused(running, session, options())
        assert status == NtStatus.REQUEST_NOT_ACCEPTED


@in_loop
async def test_bind_as_somebody_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        Passdb(tmp_path / "smbpasswd").set_password("bob", "builder")
        session = await running.session(options())
        bob, wrong = Credentials("bob", "builder", "server"), Credentials(USER, "wrong", "server")
        assert await refused(running, session, options(), bob) == NtStatus.ACCESS_DENIED
        assert await refused(running, session, options(), wrong) == NtStatus.LOGON_FAILURE


@in_loop
async def test_bind_twice(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(options())
        connection = await running.connection(options())
        await session.bind(connection)
        first = session.channels[0].connection
        # A channel's requests are signed with its own key, which only for the first is the session's.
        for bound, status in (
            (first, NtStatus.REQUEST_NOT_ACCEPTED),
            (connection, NtStatus.ACCESS_DENIED),
        ):
            with pytest.raises(StatusError) as error:
                await session.bind(bound)
            assert error.value.status == status


@in_loop
async def test_two_sessions_on_the_same_two_connections(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        one, other = await running.session(options()), await running.session(options())
        on_other = await one.bind(other.channels[0].connection)
        on_one = await other.bind(one.channels[0].connection)
        await echo(on_other, one)
        await echo(on_one, other)


@in_loop
async def test_bind_unsigned(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(options())
        connection = await running.connection(options())
        response = await setup(connection, session.id, SessionSetupFlags.BINDING)
        assert response.status == NtStatus.INVALID_PARAMETER


@in_loop
async def test_bind_signed_wrongly(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(options())
        stranger = await running.session(options())
        connection = await running.connection(options())
        response = await setup(
            connection,
            session.id,
            SessionSetupFlags.BINDING,
            signer=stranger.authenticated.signer,
            verify=False,
        )
        assert response.status == NtStatus.ACCESS_DENIED
        await echo(session.channels[0], session)


@in_loop
async def test_refused_binding_is_signed_with_the_session_key(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(options(Dialect.SMB_3_0))
        connection = await running.connection(options(Dialect.SMB_2_1))
        response = await setup(
            connection,
            session.id,
            SessionSetupFlags.BINDING,
            signer=session.authenticated.signer,
            verify=False,
        )
        assert response.header.is_signed
        assert session.authenticated.signer.verify(response.message)


@pytest.mark.parametrize("flags", [0, SessionSetupFlags.BINDING])
@in_loop
async def test_no_such_session(tmp_path: Path, flags: int) -> None:
    async with serving(tmp_path) as running:
        connection = await running.connection()
        assert (await setup(connection, 77, flags)).status == NtStatus.USER_SESSION_DELETED


@in_loop
async def test_bind_to_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        connection = await running.connection()
        response = await setup(connection, 0, SessionSetupFlags.BINDING)
        assert response.status == NtStatus.INVALID_PARAMETER


@in_loop
async def test_session_of_another_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(options())
        connection = await running.connection(options())
        assert (await setup(connection, session.id)).status == NtStatus.USER_SESSION_DELETED
        request = client_connection.Request(
            Header(command=Command.TREE_CONNECT, session_id=session.id), (bytes(8),)
        )
        (sent,) = await connection.send([request])
        assert (await sent.answer).status == NtStatus.USER_SESSION_DELETED


async def reauthenticate(session: client.Session, **changes: str) -> None:
    channel = session.channels[0]
    credentials = dataclasses.replace(session.credentials, **changes)
    await authenticate(channel.connection, credentials, session_id=session.id)


@in_loop
async def test_reauthenticate_keeps_the_keys(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session(options())
        with contextlib.suppress(client.BadSignature):
            # The last answer is signed with the old key; this client looks for the new one.
            await reauthenticate(session)
        await echo(session.channels[0], session)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"user": "bob"}, NtStatus.ACCESS_DENIED),
        ({"password": "wrong"}, NtStatus.LOGON_FAILURE),
    ],
)
@in_loop
async def test_a_failed_reauthentication_ends_the_session(
    tmp_path: Path, changes: dict[str, str], status: NtStatus
) -> None:
    async with serving(tmp_path) as running:
        Passdb(tmp_path / "smbpasswd").set_password("bob", PASSWORD)
        session = await running.session(options())
        with pytest.raises(StatusError) as error:
            await reauthenticate(session, **changes)
        assert error.value.status == status
        assert not running.service.sessions


@in_loop
async def test_channels_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smbserver.commands.session_setup.MAX_CHANNELS", 2)
    async with serving(tmp_path) as running:
        session = await running.session(options())
        await session.bind(await running.connection(options()))
        status = await refused(running, session, options())
        assert status == NtStatus.INSUFFICIENT_RESOURCES


@in_loop
async def test_authentications_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smbserver.commands.session_setup.MAX_AUTHENTICATIONS", 0)
    async with serving(tmp_path) as running:
        with pytest.raises(StatusError) as error:
            await running.session()
        assert error.value.status == NtStatus.INSUFFICIENT_RESOURCES


async def expired(awaitable: Awaitable[object]) -> None:
    with pytest.raises(StatusError) as error:
        await awaitable
    assert error.value.status == NtStatus.NETWORK_SESSION_EXPIRED


@in_loop
async def test_an_expired_session_only_gives_back(tmp_path: Path) -> None:
    """[MS-SMB2] 3.3.5.2.9: on each of its channels."""
    async with serving(tmp_path) as running:
        (tmp_path / "share" / "file").touch()
        session = await running.session(options())
        await session.bind(await running.connection(options()))
        tree = await session.tree("share")
        one, other = await tree.create("file"), await tree.create("file")
        await one.lock(LockElement(0, 10, LockFlags.EXCLUSIVE_LOCK))
        running.service.sessions[session.id].last_until(time.time())
        for _ in session.channels:
            await expired(tree.create("file"))
        await expired(one.read(0, 1))
        await expired(one.lock(LockElement(20, 10, LockFlags.EXCLUSIVE_LOCK)))
        await expired(session.tree("share"))
        await expired(session.bind(await running.connection(options())))
        await echo(session.channels[0], session)
        await one.lock(LockElement(0, 10, LockFlags.UNLOCK))
        await one.close()
        with contextlib.suppress(client.BadSignature):
            await reauthenticate(session)
        await other.lock(LockElement(0, 10, LockFlags.EXCLUSIVE_LOCK))
        running.service.sessions[session.id].last_until(time.time())
        await session.close()
        assert not running.service.sessions
