"""Security descriptors as Samba stores them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.vfs import nt_acl
from smbserver.wire.security_descriptor import EVERYONE, Ace, Acl, SecurityDescriptor, unix_user

DESCRIPTOR = SecurityDescriptor(unix_user(1), unix_user(2), None, Acl((Ace(0, 0, 3, EVERYONE),)))

BY_SAMBA = bytes.fromhex(
    "04000400000002000400020001000000" + "00" * 62 + "706f7369785f61636c00"
    "642945517a7add01" + "00" * 64
)
"""What Samba 4.17 writes before the descriptor, hashes left out."""


def test_both_ways() -> None:
    packed = DESCRIPTOR.pack()
    assert nt_acl.parse(nt_acl.pack(packed, 5)) == packed


def test_a_descriptor_stands_where_samba_expects_it() -> None:
    value = nt_acl.pack(DESCRIPTOR.pack(), 5)
    assert len(BY_SAMBA) == 160
    assert value[:12] == BY_SAMBA[:12]
    assert value[78:88] == BY_SAMBA[78:88]
    assert value[160:164] == bytes.fromhex("01000480")
    assert int.from_bytes(value[164:168], "little") == 180, "offsets count from the value's start"


@given(st.binary(max_size=300))
def test_nothing_breaks_it(value: bytes) -> None:
    nt_acl.parse(value)


@pytest.mark.parametrize(
    "value", [b"", b"\4\0", b"\5\0\5\0" + bytes(200), b"\4\0\3\0" + bytes(200)]
)
def test_unknown_forms_count_as_none(value: bytes) -> None:
    assert nt_acl.parse(value) is None


def test_a_file_without_one(tmp_path: Path) -> None:
    assert nt_acl.read(str(tmp_path)) is None
