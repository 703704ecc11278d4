from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.vfs import dos_attributes as dos
from smbserver.vfs.dos_attributes import DosAttributes, read_dos_attributes, write_dos_attributes

# As getfattr shows them on files that Samba has written.
VERSION_5 = bytes.fromhex("00000500 05000000 11000000 20000000 80c7d9a2f5b1d901".replace(" ", ""))
VERSION_3 = bytes.fromhex(
    "30783230 00000300 03000000 11000000 22000000 00000000"
    "0000000000000000 0000000000000000 80c7d9a2f5b1d901 0000000000000000".replace(" ", "")
)


def test_version_5_as_samba_writes_it() -> None:
    parsed = DosAttributes.parse(VERSION_5)
    assert parsed == DosAttributes(dos.ARCHIVE, 0x01D9B1F5A2D9C780)
    assert parsed.pack() == VERSION_5


def test_version_3_with_the_text_in_front() -> None:
    assert DosAttributes.parse(VERSION_3) == DosAttributes(
        dos.ARCHIVE | dos.HIDDEN, 0x01D9B1F5A2D9C780
    )


@given(st.binary(max_size=80))
def test_any_value_is_read_or_counts_as_none(value: bytes) -> None:
    parsed = DosAttributes.parse(value)
    assert parsed is None or parsed.attributes & ~dos.STORED == 0


def test_on_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert read_dos_attributes(str(path)) is None
    written = DosAttributes(dos.READONLY | dos.SYSTEM, 130_000_000_000_000_000)
    if not write_dos_attributes(str(path), written):
        pytest.skip("the file system of the test's folder holds no extended attributes")
    assert read_dos_attributes(str(path)) == written
