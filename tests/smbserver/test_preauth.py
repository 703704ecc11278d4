"""The running hash against Microsoft's published vectors and its own definition."""

from __future__ import annotations

from hashlib import sha512

from hypothesis import given
from hypothesis import strategies as st

from smbserver.preauth import PreauthHash


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_each_message_is_hashed_behind_the_hash_before(messages: list[bytes]) -> None:
    expected, running = bytes(64), PreauthHash()
    for message in messages:
        expected = sha512(expected + message).digest()
        running.update(memoryview(message))
    assert running.value == expected


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_parts_are_one_message(parts: list[bytes]) -> None:
    whole, pieces = PreauthHash(), PreauthHash()
    whole.update(b"".join(parts))
    pieces.update(*parts)
    assert whole.value == pieces.value


def test_a_copy_goes_its_own_way() -> None:
    connection = PreauthHash()
    connection.update(b"negotiate")
    before = connection.value
    authentication = connection.copy()
    authentication.update(b"session setup")
    assert connection.value == before
    assert authentication.value != before
