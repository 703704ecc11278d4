from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smbserver import client
from smbserver.client.connection import Request
from smbserver.wire.header import Command, Header
from smbserver.wire.negotiate import (
    Capabilities,
    Dialect,
    NegotiateRequest,
    NegotiateResponse,
    SecurityMode,
)
from smbserver.wire.negotiate_contexts import (
    EncryptionCapabilities,
    EncryptionCipher,
    NegotiateContext,
    PreauthIntegrityCapabilities,
    SigningAlgorithm,
    SigningCapabilities,
)
from smbserver.wire.smb1 import MultiProtocolNegotiate
from smbserver.wire.status import NtStatus
from tests.smbserver.in_process import InProcess, in_loop, serving

PREAUTH = PreauthIntegrityCapabilities(salt=b"s" * 32)


async def ask(
    running: InProcess, dialects: tuple[int, ...], *contexts: NegotiateContext, **fields: Any
) -> client.Response:
    connection = client.Connection(running.channel(), client.Options())
    connection.channel.start(connection._on_message, connection._on_closed)
    body = NegotiateRequest(dialects, negotiate_contexts=contexts, **fields).pack()
    (sent,) = await connection.send([Request(Header(command=Command.NEGOTIATE), (body,))])
    return await sent.answer


async def agreed(
    running: InProcess, dialects: tuple[int, ...], *contexts: NegotiateContext, **fields: Any
) -> NegotiateResponse:
    response = (await ask(running, dialects, *contexts, **fields)).expect()
    return NegotiateResponse.parse(response.message)


@pytest.mark.parametrize("dialect", client.options.DIALECTS)
@in_loop
async def test_dialects(tmp_path: Path, dialect: Dialect) -> None:
    async with serving(tmp_path) as running:
        older = tuple(one for one in client.options.DIALECTS if one <= dialect)
        contexts = (PREAUTH,) if dialect == Dialect.SMB_3_1_1 else ()
        response = await agreed(running, older, *contexts)
        assert response.dialect_revision == dialect
        large = dialect > Dialect.SMB_2_0_2
        assert bool(response.capabilities & Capabilities.LARGE_MTU) == large
        assert response.max_read_size == (8 << 20 if large else 65536)
        assert response.security_mode == SecurityMode.SIGNING_ENABLED
        assert bytes(response.security_buffer)


@in_loop
async def test_dialects_are_limited(tmp_path: Path) -> None:
    limits = ("server min protocol = SMB3_00", "server max protocol = SMB3_02")
    async with serving(tmp_path, *limits) as running:
        response = await agreed(running, client.options.DIALECTS, PREAUTH)
        assert response.dialect_revision == Dialect.SMB_3_0_2
        refused = await ask(running, (Dialect.SMB_2_1,))
        assert refused.status == NtStatus.NOT_SUPPORTED


@pytest.mark.parametrize(
    ("dialects", "contexts", "status"),
    [
        ((), (), NtStatus.INVALID_PARAMETER),
        ((0x0100,), (), NtStatus.NOT_SUPPORTED),
        ((0x0311,), (), NtStatus.INVALID_PARAMETER),
        ((0x0311,), (PREAUTH, PREAUTH), NtStatus.INVALID_PARAMETER),
        ((0x0311,), (PreauthIntegrityCapabilities(()),), NtStatus.INVALID_PARAMETER),
        (
            (0x0311,),
            (PreauthIntegrityCapabilities((99,)),),
            NtStatus.SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP,
        ),
        ((0x0311,), (PREAUTH, EncryptionCapabilities(())), NtStatus.INVALID_PARAMETER),
        ((0x0311,), (PREAUTH, SigningCapabilities(())), NtStatus.INVALID_PARAMETER),
    ],
)
@in_loop
async def test_refused(
    tmp_path: Path,
    dialects: tuple[int, ...],
    contexts: tuple[NegotiateContext, ...],
    status: NtStatus,
) -> None:
    async with serving(tmp_path) as running:
        assert (await ask(running, dialects, *contexts)).status == status


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((1, 2, 3, 4), EncryptionCipher.AES_128_GCM),
        ((4, 1), EncryptionCipher.AES_256_GCM),
        ((3, 1), EncryptionCipher.AES_128_CCM),
        ((3,), EncryptionCipher.AES_256_CCM),
        ((99,), EncryptionCipher.NONE),
    ],
)
@in_loop
async def test_ciphers(tmp_path: Path, offered: tuple[int, ...], chosen: int) -> None:
    async with serving(tmp_path) as running:
        response = await agreed(running, (0x0311,), PREAUTH, EncryptionCapabilities(offered))
        assert EncryptionCapabilities((chosen,)) in response.negotiate_contexts


@pytest.mark.parametrize("offered", [(2, 1, 0), (1, 0), (0, 2), (99, 1)])
@in_loop
async def test_signing_follows_the_client(tmp_path: Path, offered: tuple[int, ...]) -> None:
    async with serving(tmp_path) as running:
        response = await agreed(running, (0x0311,), PREAUTH, SigningCapabilities(offered))
        first = next(one for one in offered if one in set(SigningAlgorithm))
        assert SigningCapabilities((first,)) in response.negotiate_contexts


@in_loop
async def test_no_answer_to_what_was_not_asked(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        response = await agreed(running, (0x0311,), PREAUTH)
        assert [type(one) for one in response.negotiate_contexts] == [PreauthIntegrityCapabilities]
        both = Capabilities.MULTI_CHANNEL | Capabilities.ENCRYPTION
        for dialect, expected in (
            (Dialect.SMB_2_1, Capabilities(0)),
            (Dialect.SMB_3_0, both),
            (Dialect.SMB_3_1_1, Capabilities.MULTI_CHANNEL),
        ):
            contexts = (PREAUTH,) if dialect == Dialect.SMB_3_1_1 else ()
            silent = await agreed(running, (dialect,), *contexts)
            asked = await agreed(running, (dialect,), *contexts, capabilities=both)
            assert silent.capabilities & both == 0
            assert asked.capabilities & both == expected


@in_loop
async def test_required_and_off(tmp_path: Path) -> None:
    lines = (
        "server signing = mandatory",
        "server multi channel support = no",
        "server smb encrypt = off",
    )
    async with serving(tmp_path, *lines) as running:
        wanted = Capabilities.MULTI_CHANNEL | Capabilities.ENCRYPTION
        response = await agreed(running, (Dialect.SMB_3_0,), capabilities=wanted)
        assert response.security_mode & SecurityMode.SIGNING_REQUIRED
        assert response.capabilities & wanted == 0
        response = await agreed(running, (0x0311,), PREAUTH, EncryptionCapabilities((2,)))
        assert EncryptionCapabilities((0,)) in response.negotiate_contexts


@pytest.mark.parametrize("first", ["SMB 2.002", "SMB 2.???"])
@in_loop
async def test_multi_protocol(tmp_path: Path, first: str) -> None:
    async with serving(tmp_path) as running:
        channel = running.channel()
        channel.send(MultiProtocolNegotiate(("NT LM 0.12", first)).pack())
        message = await channel.receive()
        header, response = Header.parse(message), NegotiateResponse.parse(message)
        assert (header.message_id, header.credits) == (0, 1)
        wildcard = first == "SMB 2.???"
        expected = Dialect.WILDCARD if wildcard else Dialect.SMB_2_0_2
        assert response.dialect_revision == expected
        command = Command.NEGOTIATE if wildcard else Command.ECHO
        body = NegotiateRequest((0x0210,)).pack() if wildcard else b"\4\0\0\0"
        channel.send(Header(command=command, message_id=1, credits=1).pack() + body)
        assert Header.parse(await channel.receive()).status == NtStatus.SUCCESS


@in_loop
async def test_second_negotiate_ends_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        connection = await running.connection()
        request = Request(Header(command=Command.NEGOTIATE), (NegotiateRequest((0x0210,)).pack(),))
        (sent,) = await connection.send([request])
        with pytest.raises(Exception, match="peer ended"):
            await sent.answer
