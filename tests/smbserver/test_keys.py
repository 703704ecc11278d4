"""Keys against Microsoft's published vectors and against another implementation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.keys import derive, kdf
from smbserver.wire.negotiate import Dialect
from smbserver.wire.negotiate_contexts import EncryptionCipher

# "SMB 3.1.1 Pre-authentication integrity in Windows 10", test vectors.
PREAUTH_HASH = bytes.fromhex(
    "0DD13628CC3ED218EF9DF9772D436D0887AB9814BFAE63A80AA845F36909DB79"
    "28622DDDAD522D9751640A459762C5A9D6BB084CBB3CE6BDADEF5D5BCE3C6C01"
)


def test_signing_key_of_3_1_1() -> None:
    keys = derive(
        Dialect.SMB_3_1_1,
        bytes.fromhex("270E1BA896585EEB7AF3472D3B4C75A7"),
        PREAUTH_HASH,
        EncryptionCipher.AES_128_GCM,
    )
    assert keys.signing == bytes.fromhex("73FE7A9A77BEF0BDE49C650D8CCB5F76")


def test_signing_key_of_3_0() -> None:
    """ "SMB 2 and SMB 3 security in Windows 10", test vectors."""
    keys = derive(Dialect.SMB_3_0, bytes.fromhex("7CD451825D0450D235424E44BA6E78CC"))
    assert keys.signing == bytes.fromhex("0B7E9C5CAC36C0F6EA9AB275298CEDCE")


def test_sealing_keys_of_3_0() -> None:
    """ "Encryption in SMB 3.0: A protocol perspective", test vectors."""
    keys = derive(Dialect.SMB_3_0_2, bytes.fromhex("B4546771B515F766A86735532DD6C4F0"))
    assert keys.client_to_server == bytes.fromhex("261B72350558F2E9DCF613070383EDBF")
    assert keys.server_to_client == bytes.fromhex("8FE2B57EC34D2DB5B1A9727F526BBDB5")


@pytest.mark.parametrize("dialect", [Dialect.SMB_2_0_2, Dialect.SMB_2_1])
def test_before_3_0_the_session_key_signs(dialect: Dialect) -> None:
    assert derive(dialect, b"k" * 24).signing == b"k" * 16
    assert derive(dialect, b"k" * 5).signing == b"k" * 5 + bytes(11)
    assert derive(dialect, b"k" * 16).client_to_server == b""


@pytest.mark.parametrize("cipher", list(EncryptionCipher))
def test_long_keys_come_from_the_whole_session_key(cipher: EncryptionCipher) -> None:
    session_key = bytes(range(32))
    keys = derive(Dialect.SMB_3_1_1, session_key, PREAUTH_HASH, cipher)
    long = cipher in (EncryptionCipher.AES_256_CCM, EncryptionCipher.AES_256_GCM)
    source, length = (session_key, 32) if long else (session_key[:16], 16)
    assert keys.client_to_server == kdf(source, b"SMBC2SCipherKey\0", PREAUTH_HASH, length)
    assert keys.server_to_client == kdf(source, b"SMBS2CCipherKey\0", PREAUTH_HASH, length)
    assert keys.signing == kdf(session_key[:16], b"SMBSigningKey\0", PREAUTH_HASH)


@given(
    st.binary(min_size=16, max_size=32),
    st.binary(min_size=1, max_size=20),
    st.binary(max_size=64),
    st.sampled_from([16, 32]),
)
def test_kdf_as_others_compute_it(key: bytes, label: bytes, context: bytes, length: int) -> None:
    session = pytest.importorskip("smbprotocol.session")
    assert kdf(key, label, context, length) == session.Session._smb3kdf(
        None, key, label, context, length
    )


def test_keys_are_not_shown() -> None:
    assert "73" not in repr(derive(Dialect.SMB_2_1, b"s" * 16))
