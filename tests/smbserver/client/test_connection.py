"""The client's connection against a server made by hand: order, credits, protection, nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from smbdirect.channel_end import ChannelClosed
from smbserver.client.connection import (
    UNSOLICITED_MAX,
    BadSignature,
    InFlight,
    Protection,
    Request,
)
from smbserver.client.options import Options
from smbserver.encryption import Cipher
from smbserver.preauth import PreauthHash
from smbserver.signing import HmacSha256Signer
from smbserver.wire.errors import ErrorResponse, Malformed
from smbserver.wire.header import SIGNATURE_OFFSET, UNSOLICITED, Command, Header, HeaderFlags
from smbserver.wire.negotiate import Capabilities, Dialect
from smbserver.wire.negotiate_contexts import (
    EncryptionCapabilities,
    EncryptionCipher,
    PreauthIntegrityCapabilities,
    SigningAlgorithm,
    SigningCapabilities,
)
from smbserver.wire.status import NtStatus, StatusError
from tests.smbserver.client.peer import Peer, ends, negotiate, negotiate_response, negotiated

SIGNER = HmacSha256Signer(b"k" * 16)
SIGNED = HeaderFlags.SERVER_TO_REDIR | HeaderFlags.SIGNED


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def echo(charge: int = 1) -> Request:
    return Request(Header(command=Command.ECHO), (b"\x04\0\0\0",), charge)


def signed(message: bytes) -> bytes:
    return message[:SIGNATURE_OFFSET] + SIGNER.sign([message]) + message[64:]


async def status_of(sent: InFlight) -> int:
    return (await sent.answer).status


def test_answers_find_their_requests_in_any_order() -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            sent = [(await connection.send([echo()]))[0] for _ in range(3)]
            headers = [await peer.request() for _ in range(3)]
            for number in (2, 0, 1):
                peer.send(peer.answer(headers[number], status=number))
            assert [await status_of(one) for one in sent] == [0, 1, 2]
            assert connection.in_flight == 0

    run(work())


def test_a_compound_goes_as_one_and_may_come_back_in_pieces() -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            sent = await connection.send([echo(), echo(), echo()])
            requests = await peer.requests()
            assert [header.message_id for header, _ in requests] == [1, 2, 3]
            first, second, third = (header for header, _ in requests)
            peer.send(peer.answer(third))
            chained = peer.answer(first, b"\x04\0\0\0".ljust(8), next_command=72)
            peer.send(chained, peer.answer(second))
            assert [await status_of(one) for one in sent] == [0, 0, 0]

    run(work())


def test_credits_are_spent_and_waited_for() -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            assert connection.credits.available == 10
            (large,) = await connection.send([echo(charge=8)])
            header = await peer.request()
            assert (header.credit_charge, header.message_id) == (8, 1)
            waiting = asyncio.ensure_future(connection.send([echo(charge=4)]))
            behind = asyncio.ensure_future(connection.send([echo()]))
            await asyncio.sleep(0)
            assert connection.credits.waited == 2, "who asks for less must not overtake"
            peer.send(peer.answer(header, credits=3))
            assert await status_of(large) == 0
            await asyncio.gather(waiting, behind)
            ids = [header.message_id for header in [await peer.request() for _ in range(1)]]
            assert ids == [9]
            assert connection.credits.available == 0

    run(work())


def test_interim_responses_grant_and_are_not_the_answer() -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            (sent,) = await connection.send([echo()])
            header = await peer.request()
            interim = Header(flags=3, command=header.command, message_id=1, credits=7)
            interim.status, interim.async_id = NtStatus.PENDING, 0x1_0000_0002
            peer.send(interim.pack() + ErrorResponse().pack())
            pending = await connection.next_pending()
            assert pending is sent
            assert connection.credits.available == 16
            connection.cancel(sent)
            cancel = await peer.request()
            assert (cancel.command, cancel.async_id) == (Command.CANCEL, 0x1_0000_0002)
            assert connection.credits.available == 16, "CANCEL costs nothing"
            peer.send(peer.answer(header, status=NtStatus.CANCELLED, credits=0))
            assert await status_of(sent) == NtStatus.CANCELLED

    run(work())


@pytest.mark.parametrize(
    ("dialect", "charge"), [(Dialect.SMB_2_0_2, 0), (Dialect.SMB_2_1, 1), (Dialect.SMB_3_1_1, 1)]
)
def test_credit_charge_is_reserved_in_2_0_2(dialect: Dialect, charge: int) -> None:
    async def work() -> None:
        async with negotiated(response=negotiate_response(dialect)) as (connection, peer):
            await connection.send([echo()])
            assert (await peer.request()).credit_charge == charge

    run(work())


def answer_signed(peer: Peer, header: Header) -> None:
    peer.send(signed(peer.answer(header, flags=SIGNED)))


def answer_unsigned(peer: Peer, header: Header) -> None:
    peer.send(peer.answer(header))


def answer_signed_wrongly(peer: Peer, header: Header) -> None:
    peer.send(peer.answer(header, flags=SIGNED))


@pytest.mark.parametrize("answer", [answer_unsigned, answer_signed_wrongly])
def test_a_signed_request_needs_a_signed_answer(answer: Any) -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            (bad,) = await connection.send([echo()], Protection(SIGNER))
            ((header, message),) = await peer.requests()
            assert SIGNER.verify(message)
            answer(peer, header)
            with pytest.raises(BadSignature):
                await bad.answer
            (good,) = await connection.send([echo()], Protection(SIGNER))
            answer_signed(peer, await peer.request())
            assert await status_of(good) == 0

    run(work())


def test_the_end_of_a_session_may_be_told_unsigned() -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            (sent,) = await connection.send([echo()], Protection(SIGNER))
            header = await peer.request()
            peer.send(peer.answer(header, status=NtStatus.USER_SESSION_DELETED))
            assert await status_of(sent) == NtStatus.USER_SESSION_DELETED

    run(work())


def test_a_sealed_request_needs_a_sealed_answer() -> None:
    async def work() -> None:
        ours = Cipher(EncryptionCipher.AES_128_GCM, b"c" * 16, b"s" * 16)
        theirs = Cipher(EncryptionCipher.AES_128_GCM, b"s" * 16, b"c" * 16)
        async with negotiated() as (connection, peer):
            connection.ciphers[7] = ours
            for sealed in (True, False):
                request = Request(Header(command=Command.ECHO, session_id=7), (b"\x04\0\0\0",))
                (sent,) = await connection.send([request], Protection(None, ours))
                header = Header.parse(theirs.open(await peer.channel.receive()))
                answer = peer.answer(header)
                peer.send(theirs.seal(7, [answer]) if sealed else answer)
                if sealed:
                    assert await status_of(sent) == 0
                else:
                    with pytest.raises(BadSignature):
                        await sent.answer

    run(work())


@pytest.mark.parametrize(
    "nonsense", [b"", b"x", b"\xfeSMB", b"\xfdSMB" + bytes(60), b"\xffSMB" + bytes(60)]
)
def test_nonsense_ends_the_connection(nonsense: bytes) -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            (sent,) = await connection.send([echo()])
            await peer.request()
            peer.send(nonsense)
            with pytest.raises(ChannelClosed, match="no SMB2"):
                await sent.answer
            with pytest.raises(ChannelClosed):
                await connection.send([echo()])

    run(work())


def test_the_end_of_the_connection_reaches_all_who_wait() -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            lost = []
            connection.on_lost.append(lost.append)
            sent = [(await connection.send([echo()]))[0] for _ in range(10)]
            waiting = asyncio.ensure_future(connection.send([echo()]))
            for _ in sent:
                await peer.request()
            peer.channel.close()
            for one in (*(entry.answer for entry in sent), waiting):
                with pytest.raises(ChannelClosed):
                    await one
            assert lost == [connection]

    run(work())


def test_what_nobody_asked_for_is_kept_and_bounded() -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            broken = Header(command=Command.OPLOCK_BREAK)
            for number in range(UNSOLICITED_MAX + 10):
                peer.send(peer.answer(broken, message_id=UNSOLICITED, status=number))
            (sent,) = await connection.send([echo()])
            peer.send(peer.answer(await peer.request()))
            await sent.answer
            assert len(connection.unsolicited) == UNSOLICITED_MAX
            assert (await connection.next_unsolicited()).status == 10

    run(work())


def test_an_error_carries_its_data() -> None:
    async def work() -> None:
        async with negotiated() as (connection, peer):
            (sent,) = await connection.send([echo()])
            body = ErrorResponse(b"\0\x10\0\0").pack()
            header = await peer.request()
            peer.send(peer.answer(header, body, status=NtStatus.BUFFER_TOO_SMALL))
            response = await sent.answer
            with pytest.raises(StatusError) as caught:
                response.expect()
            assert caught.value.data == b"\0\x10\0\0"
            assert response.expect(NtStatus.BUFFER_TOO_SMALL) is response

    run(work())


def test_the_hash_takes_both_messages() -> None:
    async def work() -> None:
        async with ends() as (connection, peer):
            seen = PreauthHash()

            async def serve() -> None:
                ((header, message),) = await peer.requests()
                answer = peer.answer(header, negotiate_response().pack())
                seen.update(message)
                seen.update(answer)
                peer.send(answer)

            await asyncio.gather(connection.negotiate(), serve())
            assert connection.preauth.value == seen.value

    run(work())


PREAUTH = PreauthIntegrityCapabilities()


@pytest.mark.parametrize(
    ("dialect", "contexts"),
    [
        (0x0222, ()),
        (Dialect.WILDCARD, ()),
        (Dialect.SMB_3_1_1, ()),
        (Dialect.SMB_3_1_1, (PREAUTH, EncryptionCapabilities((1, 2)))),
        (Dialect.SMB_3_1_1, (PREAUTH, EncryptionCapabilities((77,)))),
        (Dialect.SMB_3_1_1, (PREAUTH, SigningCapabilities((77,)))),
        (Dialect.SMB_3_1_1, (PREAUTH, SigningCapabilities(()))),
    ],
)
def test_answers_to_negotiate_that_are_refused(dialect: int, contexts: Any) -> None:
    async def work() -> None:
        async with ends() as (connection, peer):
            response = negotiate_response(dialect, negotiate_contexts=contexts)
            with pytest.raises(Malformed):
                await negotiate(connection, peer, response)

    run(work())


def test_what_was_agreed_on() -> None:
    async def work() -> None:
        contexts = (
            PREAUTH,
            EncryptionCapabilities((EncryptionCipher.AES_256_GCM,)),
            SigningCapabilities((SigningAlgorithm.AES_GMAC,)),
        )
        response = negotiate_response(negotiate_contexts=contexts, max_read_size=1 << 20)
        async with negotiated(response=response) as (connection, _):
            agreed = connection.negotiated
            assert agreed.cipher == EncryptionCipher.AES_256_GCM
            assert agreed.signing_algorithm == SigningAlgorithm.AES_GMAC
            assert agreed.max_read_size == 1 << 20
        old = negotiate_response(Dialect.SMB_3_0, capabilities=Capabilities.ENCRYPTION)
        async with negotiated(Options(), old) as (connection, _):
            assert connection.negotiated.cipher == EncryptionCipher.AES_128_CCM
            assert connection.negotiated.signing_algorithm == SigningAlgorithm.AES_CMAC

    run(work())
