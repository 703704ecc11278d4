from __future__ import annotations

import os
from pathlib import Path

import pytest

from smbserver.vfs.file import File
from smbserver.vfs.stream import MAX_STREAM_SIZE, Stream
from smbserver.vfs.stream_attributes import find_stream, stream_names, stream_size


def opened(path: Path) -> File:
    path.touch()
    return File(os.open(path, os.O_RDWR), metadata_only=False)


@pytest.fixture(params=["file", "stream"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> File | Stream:
    """Both kinds of data behind the same calls."""
    if request.param == "file":
        return opened(tmp_path / "file")
    (tmp_path / "file").touch()
    stream = Stream(os.open(tmp_path / "file", os.O_PATH), "zone", is_directory=False)
    try:
        stream.create()
    except OSError:
        pytest.skip("the file system of the test's folder holds no extended attributes")
    return stream


def test_data_goes_in_and_comes_out(data: File | Stream) -> None:
    assert data.write(memoryview(b"hello"), 3) == 5
    assert data.size == 8
    buffer = bytearray(20)
    assert data.read(memoryview(buffer), 0) == 8
    assert bytes(buffer[:8]) == b"\0\0\0hello"
    assert data.read(memoryview(buffer), 8) == 0
    assert data.read_now(memoryview(buffer)[:4], 4) in (-1, 4)
    data.truncate(4)
    assert data.size == 4
    data.truncate(6)
    assert data.read(memoryview(buffer), 0) == 6
    assert bytes(buffer[:6]) == b"\0\0\0h\0\0"
    data.sync_data()
    data.sync()
    data.close()


def test_metadata_handles_still_set_times_and_attributes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    handle = File(os.open(tmp_path / "file", os.O_PATH), metadata_only=True)
    handle.set_times(None, 1_000_000_000)
    handle.set_attributes(0x02, 130_000_000_000_000_000)
    facts = handle.metadata()
    assert os.stat(tmp_path / "file").st_mtime_ns == 1_000_000_000
    assert (facts.attributes, facts.creation_time) == (0x02, 130_000_000_000_000_000)
    handle.close()


def test_allocation_keeps_the_end_of_the_file(tmp_path: Path) -> None:
    file = opened(tmp_path / "file")
    file.allocate(1 << 20)
    assert file.size == 0
    file.close()


def test_streams_are_listed_without_regard_to_case(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stream = Stream(os.open(tmp_path / "file", os.O_PATH), "Zone.Identifier", is_directory=False)
    stream.create()
    stream.write(memoryview(b"12345"), 0)
    path = str(tmp_path / "file")
    assert os.getxattr(path, "user.DosStream.Zone.Identifier:$DATA") == b"12345\0"
    assert list(stream_names(path)) == ["Zone.Identifier"]
    assert find_stream(path, "zone.identifier") == "Zone.Identifier"
    assert stream_size(path, "Zone.Identifier") == 5
    with pytest.raises(OSError):
        stream.truncate(MAX_STREAM_SIZE + 1)
    stream.remove()
    assert list(stream_names(path)) == []
    stream.close()
