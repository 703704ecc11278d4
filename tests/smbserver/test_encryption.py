"""Sealed messages against Microsoft's layout, another implementation, and tampering."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from hypothesis import given
from hypothesis import strategies as st

from smbserver.encryption import Cipher
from smbserver.wire.errors import Malformed
from smbserver.wire.negotiate import Dialect
from smbserver.wire.negotiate_contexts import EncryptionCipher
from smbserver.wire.transform import SIZE, TransformHeader

CIPHERS = [one for one in EncryptionCipher if one is not EncryptionCipher.NONE]
CCM = (EncryptionCipher.AES_128_CCM, EncryptionCipher.AES_256_CCM)
LONG = (EncryptionCipher.AES_256_CCM, EncryptionCipher.AES_256_GCM)

ciphers = st.sampled_from(CIPHERS)
parts = st.lists(st.binary(max_size=100), min_size=1, max_size=4)


def ends(cipher: EncryptionCipher) -> tuple[Cipher, Cipher]:
    length = 32 if cipher in LONG else 16
    client, server = b"c" * length, b"s" * length
    return Cipher(cipher, client, server), Cipher(cipher, server, client)


@given(ciphers, parts)
def test_what_one_end_seals_the_other_opens(cipher: EncryptionCipher, sent: list[bytes]) -> None:
    client, server = ends(cipher)
    sealed = client.seal(0x1234, sent)
    header = TransformHeader.parse(sealed)
    assert header.session_id == 0x1234
    assert header.original_message_size == sum(map(len, sent)) == len(sealed) - SIZE
    assert server.open(sealed) == b"".join(sent)
    with pytest.raises(Malformed):
        client.open(sealed)


@given(ciphers, parts)
def test_another_implementation_opens_it(cipher: EncryptionCipher, sent: list[bytes]) -> None:
    connection = pytest.importorskip("smbprotocol.connection")
    client, _ = ends(cipher)
    message = connection.SMB2TransformHeader()
    message.unpack(bytes(client.seal(7, sent)))
    key = b"c" * (32 if cipher in LONG else 16)
    foreign = SimpleNamespace(
        session_table={7: SimpleNamespace(decryption_key=key)},
        dialect=Dialect.SMB_3_1_1,
        cipher_id=cipher,
    )
    assert connection.Connection._decrypt(foreign, message) == b"".join(sent)


@given(ciphers, parts)
def test_the_layout_of_the_specification(cipher: EncryptionCipher, sent: list[bytes]) -> None:
    """[MS-SMB2] 3.1.4.3: what is authenticated, how long the nonce is, where the tag goes."""
    client, _ = ends(cipher)
    sealed = bytes(client.seal(7, sent))
    key = b"c" * (32 if cipher in LONG else 16)
    nonce_bytes, aead = (11, AESCCM(key)) if cipher in CCM else (12, AESGCM(key))
    nonce = sealed[20 : 20 + nonce_bytes]
    assert sealed[20 + nonce_bytes : 36] == bytes(16 - nonce_bytes)
    plain = aead.decrypt(nonce, sealed[SIZE:] + sealed[4:20], sealed[20:SIZE])
    assert plain == b"".join(sent)


@given(ciphers, parts, st.data())
def test_a_changed_message_does_not_open(
    cipher: EncryptionCipher, sent: list[bytes], draw: st.DataObject
) -> None:
    client, server = ends(cipher)
    sealed = bytearray(client.seal(7, sent))
    # Of the nonce field only the nonce is read, but all of it is authenticated.
    sealed[draw.draw(st.integers(0, len(sealed) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(Malformed):
        server.open(sealed)


@given(ciphers, st.binary(max_size=200))
def test_random_bytes_do_not_open(cipher: EncryptionCipher, raw: bytes) -> None:
    _, server = ends(cipher)
    with pytest.raises(Malformed):
        server.open(b"\xfdSMB" + raw)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_no_nonce_comes_twice(cipher: EncryptionCipher) -> None:
    client, _ = ends(cipher)
    nonces = {TransformHeader.parse(client.seal(7, [b"same"])).nonce for _ in range(1000)}
    assert len(nonces) == 1000


def test_long_messages() -> None:
    client, server = ends(EncryptionCipher.AES_128_GCM)
    sent = [b"h" * 80, bytes(8 << 20)]
    assert server.open(client.seal(7, sent)) == b"".join(sent)
