"""Server-side copy: what is copied, and what is refused with how much done."""

from __future__ import annotations

from pathlib import Path

import pytest

from smbserver.ioctls import srv_copychunk
from smbserver.ioctls.srv_copychunk import MAX_CHUNK_SIZE, MAX_CHUNKS, MAX_COPY_SIZE
from smbserver.vfs.file import File
from smbserver.wire.file_id import FileId
from smbserver.wire.server_side_copy import (
    SrvCopychunk,
    SrvCopychunkCopy,
    file_id_of,
    resume_key,
)


def test_a_key_leads_to_its_open() -> None:
    assert file_id_of(resume_key(FileId(3, 7))) == FileId(3, 7)


def test_chunks_are_what_was_packed() -> None:
    copy = SrvCopychunkCopy(
        resume_key(FileId(1, 2)), (SrvCopychunk(0, 5, 10), SrvCopychunk(9, 8, 7))
    )
    assert SrvCopychunkCopy.parse(copy.pack()) == copy


@pytest.mark.parametrize(
    ("chunks", "allowed"),
    [
        ([1] * MAX_CHUNKS, True),
        ([1] * (MAX_CHUNKS + 1), False),
        ([MAX_CHUNK_SIZE], True),
        ([MAX_CHUNK_SIZE + 1], False),
        ([MAX_CHUNK_SIZE] * (MAX_COPY_SIZE // MAX_CHUNK_SIZE), True),
        ([MAX_CHUNK_SIZE] * (MAX_COPY_SIZE // MAX_CHUNK_SIZE) + [1], False),
        ([0], False),
    ],
)
def test_limits(chunks: list[int], allowed: bool) -> None:
    copy = SrvCopychunkCopy(bytes(24), tuple(SrvCopychunk(0, 0, length) for length in chunks))
    assert srv_copychunk._is_within_limits(copy) is allowed


def test_an_overlapping_copy_moves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("r+b") as opened:
        file = File(opened.fileno(), metadata_only=False)
        assert srv_copychunk._copy(file, file, SrvCopychunk(0, 3, 6)) == 6
    assert path.read_bytes() == b"0120123459"
