"""Signatures against published vectors and another implementation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.signing import (
    AesCmacSigner,
    AesGmacSigner,
    HmacSha256Signer,
    algorithm_for,
    signer_for,
)
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.negotiate import Dialect
from smbserver.wire.negotiate_contexts import SigningAlgorithm

RFC_4493_MESSAGE = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)


@pytest.mark.parametrize(
    ("length", "signature"),
    [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
        (64, "51f0bebf7e3b9d92fc49741779363cfe"),
    ],
)
def test_cmac_of_rfc_4493(length: int, signature: str) -> None:
    signer = AesCmacSigner(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    message = RFC_4493_MESSAGE[:length]
    assert signer.sign([message]).hex() == signature
    assert signer.sign([message[:7], memoryview(message)[7:]]).hex() == signature


def test_hmac_of_rfc_4231() -> None:
    """Test case 2, cut to 16 bytes."""
    signature = HmacSha256Signer(b"Jefe").sign([b"what do ya want ", b"for nothing?"])
    assert signature.hex() == "5bdcc146bf60754e6a042426089575c7"


messages = st.builds(
    lambda command, flags, message_id, body: (
        Header(command=command, flags=flags, message_id=message_id).pack() + body
    ),
    st.sampled_from(list(Command)),
    st.sampled_from([8, 9]),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=100),
)


@given(
    st.sampled_from(list(SigningAlgorithm)),
    st.binary(min_size=16, max_size=16),
    messages,
    st.data(),
)
def test_as_others_sign_and_parts_do_not_matter(
    algorithm: SigningAlgorithm, key: bytes, message: bytes, draw: st.DataObject
) -> None:
    connection = pytest.importorskip("smbprotocol.connection").Connection
    header = Header.parse(message)
    expected = connection._generate_signature(
        SimpleNamespace(dialect=Dialect.SMB_3_1_1, signing_algorithm_id=algorithm),
        message,
        key,
        header.message_id,
        header.is_response,
        header.command,
    )
    signer = signer_for(algorithm, key)
    cut = draw.draw(st.integers(64, len(message)))
    assert signer.sign([message[:cut], memoryview(message)[cut:]]) == expected
    assert signer.verify(message[:48] + expected + message[64:])


@given(st.sampled_from(list(SigningAlgorithm)), messages, st.data())
def test_a_changed_message_is_noticed(
    algorithm: SigningAlgorithm, message: bytes, draw: st.DataObject
) -> None:
    signer = signer_for(algorithm, b"k" * 16)
    signed = bytearray(message[:48] + signer.sign([message]) + message[64:])
    assert signer.verify(signed)
    signed[draw.draw(st.integers(0, len(signed) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    assert not signer.verify(signed)


def test_gmac_nonce_tells_the_ends_and_cancel_apart() -> None:
    """[MS-SMB2] 3.1.4.1: otherwise request, response and CANCEL of one MessageId share a nonce."""
    signer = AesGmacSigner(b"k" * 16)
    one = Header(command=Command.READ, message_id=5)
    other = Header(command=Command.READ, message_id=5, flags=HeaderFlags.SERVER_TO_REDIR)
    cancel = Header(command=Command.CANCEL, message_id=5)
    assert len({signer.sign([header.pack()]) for header in (one, other, cancel)}) == 3


@pytest.mark.parametrize(
    ("dialect", "negotiated", "algorithm"),
    [
        (Dialect.SMB_2_0_2, None, SigningAlgorithm.HMAC_SHA256),
        (Dialect.SMB_2_1, None, SigningAlgorithm.HMAC_SHA256),
        (Dialect.SMB_3_0, None, SigningAlgorithm.AES_CMAC),
        (Dialect.SMB_3_0_2, None, SigningAlgorithm.AES_CMAC),
        (Dialect.SMB_3_1_1, None, SigningAlgorithm.AES_CMAC),
        (Dialect.SMB_3_1_1, SigningAlgorithm.AES_GMAC, SigningAlgorithm.AES_GMAC),
        (Dialect.SMB_3_1_1, SigningAlgorithm.HMAC_SHA256, SigningAlgorithm.HMAC_SHA256),
    ],
)
def test_what_a_dialect_signs_with(
    dialect: Dialect, negotiated: int | None, algorithm: SigningAlgorithm
) -> None:
    assert algorithm_for(dialect, negotiated) == algorithm
