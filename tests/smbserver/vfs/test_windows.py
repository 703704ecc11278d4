from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from smbserver.vfs import windows
from smbserver.vfs.file import File

CONTENT = os.urandom(1 << 16)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of four pages, at most two."""
    monkeypatch.setattr(windows, "WINDOW", 1 << 14)
    monkeypatch.setattr(windows, "WINDOWS_MAX", 2)
    monkeypatch.setattr(windows, "_windows", {})


def opened(path: Path, flags: int = os.O_RDWR) -> File:
    path.write_bytes(CONTENT)
    return File(os.open(path, flags), metadata_only=False)


def mapped(file: File, offset: int, length: int) -> memoryview:
    view = file.mapped(offset, length)
    assert view is not None
    assert bytes(view) == CONTENT[offset : offset + length]
    return view


def test_a_window_serves_the_reads_around_it_and_then_moves(tmp_path: Path) -> None:
    file = opened(tmp_path / "file")
    first = mapped(file, 0, 4096).obj
    assert mapped(file, 12000, 4096).obj is first
    second = mapped(file, 12289, 4096).obj  # one byte beyond the first
    assert second is not first
    assert mapped(file, 8192, 4096).obj is second  # it was overtaken
    assert mapped(file, 0, len(CONTENT)).obj is not second  # more than a window
    file.close()


def test_a_file_that_grows_is_mapped_again(tmp_path: Path) -> None:
    file = opened(tmp_path / "file")
    file.truncate(5000)
    mapped(file, 904, 4096)
    assert file.mapped(5000, 1) is None
    file.write(memoryview(CONTENT)[5000:], 5000)
    mapped(file, 5000, 4096)
    file.close()


def test_there_are_few_windows_and_none_of_closed_files(tmp_path: Path) -> None:
    files = [opened(tmp_path / str(number)) for number in range(3)]
    views = [mapped(file, 0, 4096) for file in files]
    assert list(windows._windows) == files[1:]
    mapped(files[1], 0, 4096)  # used last, so it stays longest
    assert list(windows._windows) == [files[2], files[1]]
    for file in files:
        file.close()
    assert not windows._windows
    assert bytes(views[0]) == CONTENT[:4096]


@pytest.mark.parametrize("folder", [None, "/dev/shm"], ids=["disk", "memory"])
def test_holes_are_read_and_stay_holes(tmp_path: Path, folder: str | None) -> None:
    if folder is not None and not os.access(folder, os.W_OK):
        pytest.skip(f"{folder} cannot be written")
    with tempfile.NamedTemporaryFile(dir=folder or tmp_path) as made:
        file = opened(Path(made.name))
        blocks = os.fstat(file.fd).st_blocks
        mapped(file, 0, 4096)
        file.truncate(1 << 20)
        assert file.mapped(0, 4096) is None
        assert file.mapped(1 << 19, 4096) is None
        buffer = bytearray(1 << 20)
        assert file.read(memoryview(buffer), 0) == len(buffer)
        assert os.fstat(file.fd).st_blocks == blocks
        file.close()


def test_what_is_not_there_is_read_in_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_only = opened(tmp_path / "write-only", os.O_WRONLY)
    assert write_only.mapped(0, 4096) is None
    write_only.close()
    file = opened(tmp_path / "file")
    assert file.mapped(len(CONTENT) - 4095, 4096) is None
    asked = []

    def read_now(self: File, buffer: memoryview, offset: int) -> int:
        asked.append(offset)
        return 1 if offset < 8191 else -1  # that byte is on the disk

    monkeypatch.setattr(File, "read_now", read_now)
    assert file.mapped(4096, 4096) is None
    assert asked == [4096, 8191]
    assert file.mapped(4095, 4096) is not None
    file.close()
