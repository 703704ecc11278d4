"""Zeros and holes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smbserver.vfs.file import File

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def file(tmp_path: Path) -> File:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4 * PAGE)
    return File(os.open(path, os.O_RDWR), metadata_only=False)


def test_zeros_do_not_move_the_end(file: File) -> None:
    file.zero(PAGE, 100 * PAGE)
    buffer = memoryview(bytearray(5 * PAGE))
    assert file.read(buffer, 0) == 4 * PAGE
    assert bytes(buffer[: 4 * PAGE]) == b"x" * PAGE + bytes(3 * PAGE)


def test_a_file_that_is_not_sparse_is_one_range(file: File) -> None:
    file.zero(PAGE, PAGE)
    assert file.data_ranges(1, 9 * PAGE) == [(1, 4 * PAGE)]
    assert file.data_ranges(4 * PAGE, 9 * PAGE) == []


def test_a_sparse_file_has_holes(file: File) -> None:
    file.set_sparse(True)
    assert file.is_sparse
    file.zero(PAGE, PAGE)
    assert file.data_ranges(0, 4 * PAGE) == [(0, PAGE), (2 * PAGE, 4 * PAGE)]
    file.zero(2 * PAGE, 2 * PAGE)
    assert file.data_ranges(0, 4 * PAGE) == [(0, PAGE)]


def test_attributes_leave_sparse_alone(file: File) -> None:
    file.set_sparse(True)
    file.set_attributes(0x20)
    assert file.is_sparse
    file.set_sparse(False)
    file.set_attributes(0x200 | 0x20)
    assert not file.is_sparse
