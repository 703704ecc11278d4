from __future__ import annotations

import errno
import os
import stat

import pytest

from smbserver.vfs import lookup
from smbserver.vfs.lookup import FoldedNames
from smbserver.vfs.names import parse_name
from smbserver.vfs.openat2 import open_beneath
from smbserver.vfs.share import Location
from smbserver.vfs.short_names import short_name
from smbserver.wire.status import NtStatus, StatusError

from .conftest import Folder


def look_up(folder: Folder, name: str) -> Location:
    return folder.share.look_up(parse_name(name))


def read(folder: Folder, name: str) -> bytes:
    file = folder.share.open_file(look_up(folder, name), os.O_RDONLY)
    buffer = bytearray(100)
    got = file.read(memoryview(buffer), 0)
    file.close()
    return bytes(buffer[:got])


def test_exact_spelling_wins_over_another_case(folder: Folder) -> None:
    (folder.path / "Name").write_text("Name")
    (folder.path / "NAME").write_text("NAME")
    assert read(folder, "Name") == b"Name"
    assert read(folder, "NAME") == b"NAME"
    assert read(folder, "name") in (b"Name", b"NAME")


def test_any_case_finds_the_file_through_folders(folder: Folder) -> None:
    (folder.path / "Ordner" / "Größe 😀").mkdir(parents=True)
    (folder.path / "Ordner" / "Größe 😀" / "Datei.TXT").write_text("x")
    location = look_up(folder, "ORDNER\\gröSSe 😀".replace("SS", "ß") + "\\datei.txt")
    assert location.exists
    assert location.path == "Ordner/Größe 😀/Datei.TXT"
    location.close()


def test_a_new_name_keeps_its_spelling_in_the_real_folder(folder: Folder) -> None:
    (folder.path / "Ordner").mkdir()
    location = look_up(folder, "oRDNER\\Neu")
    assert (location.exists, location.path, location.name) == (False, "Ordner/Neu", "Neu")


def test_a_name_that_appears_is_found_whatever_was_cached(folder: Folder) -> None:
    for number in range(50):
        assert not look_up(folder, f"file{number}").exists
        (folder.path / f"FILE{number}").touch()
        found = look_up(folder, f"file{number}")
        assert found.path == f"FILE{number}"
        found.close()
        (folder.path / f"FILE{number}").unlink()
        assert not look_up(folder, f"file{number}").exists


def test_a_folder_is_read_once_however_many_files_are_made(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda fd: reads.append(fd) or listdir(fd))
    for number in range(100):
        folder.share.create_file(look_up(folder, f"File{number}"), 0).close()
    found = look_up(folder, "FILE50")
    assert (found.path, len(reads)) == ("File50", 1)
    found.close()


def test_a_folder_that_changed_without_a_word_is_read_again(folder: Folder) -> None:
    assert not look_up(folder, "x").exists
    names = FoldedNames()
    fd = os.open(folder.path, os.O_RDONLY)
    assert names.find(fd, "file") is None
    names._follow = lambda: None  # type: ignore[method-assign]
    (folder.path / "File").touch()
    os.utime(folder.path, (1, 1))
    assert names.find(fd, "file") == "File"
    os.close(fd)


def test_names_that_differ_in_case_only_are_all_seen(folder: Folder) -> None:
    fd = os.open(folder.path, os.O_RDONLY)
    names = FoldedNames()
    (folder.path / "name").touch()
    assert names.find(fd, "NAMe") == "name"
    (folder.path / "NAME").touch()
    assert names.find(fd, "NAMe") in ("name", "NAME")
    (folder.path / "NAME").unlink()
    assert names.find(fd, "NAMe") == "name"
    (folder.path / "name").rename(folder.path / "Name")
    assert names.find(fd, "NAMe") == "Name"
    (folder.path / "Name").unlink()
    assert names.find(fd, "NAMe") is None
    os.close(fd)


def test_what_is_followed_is_limited(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MAX_DIRECTORIES", 2)
    monkeypatch.setattr(lookup, "MAX_NAMES", 5)
    names = FoldedNames()
    for number, files in enumerate((1, 1, 1, 6)):
        path = folder.path / str(number)
        path.mkdir()
        for file in range(files):
            (path / f"File{file}").touch()
        fd = os.open(path, os.O_RDONLY)
        assert names.find(fd, "FILE0") == "File0"
        os.close(fd)
        assert len(names._directories) <= 2
    assert not names._directories


def test_without_inotify_everything_is_read(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "no instance left")

    monkeypatch.setattr(lookup.WATCHES, "subscribe", refuse)
    names = FoldedNames()
    fd = os.open(folder.path, os.O_RDONLY)
    for number in range(3):
        (folder.path / f"File{number}").touch()
        assert names.find(fd, f"FILE{number}") == f"File{number}"
    assert not names._directories
    os.close(fd)


@pytest.mark.parametrize("name", ["missing\\file", "file\\below"])
def test_a_missing_folder_on_the_way(folder: Folder, name: str) -> None:
    (folder.path / "file").touch()
    with pytest.raises(StatusError) as refused:
        look_up(folder, name)
    assert refused.value.status == NtStatus.OBJECT_PATH_NOT_FOUND


def test_links_are_followed_inside_and_refused_outside(folder: Folder) -> None:
    (folder.path / "folder").mkdir()
    (folder.path / "file").write_text("inside")
    (folder.path / "folder" / "up").symlink_to("../file")
    (folder.path / "out").symlink_to("../outside/secret")
    (folder.path / "absolute").symlink_to(folder.outside / "secret")
    (folder.path / "outdir").symlink_to(folder.outside)
    (folder.path / "proc").symlink_to("/proc/self/root")
    assert read(folder, "folder\\up") == b"inside"
    assert read(folder, "FOLDER\\UP") == b"inside"
    for name in ("out", "absolute", "outdir\\secret", "OUTDIR\\secret", "proc\\etc\\passwd"):
        with pytest.raises(OSError):
            look_up(folder, name)


def test_a_link_that_leads_nowhere_is_nothing(folder: Folder) -> None:
    (folder.path / "dangling").symlink_to("nothing")
    assert not look_up(folder, "dangling").exists
    with pytest.raises(FileExistsError):
        folder.share.create_file(look_up(folder, "dangling"), 0)
    assert not (folder.path / "nothing").exists()


def test_the_kernel_keeps_every_path_beneath(folder: Folder) -> None:
    for path in ("..", "../outside/secret", "/etc/passwd", "a/../../outside", "/"):
        with pytest.raises(OSError):
            os.close(open_beneath(folder.share.root, path, os.O_PATH))


def test_a_fifo_is_not_opened(folder: Folder) -> None:
    os.mkfifo(folder.path / "fifo")
    location = look_up(folder, "fifo")
    with pytest.raises(StatusError) as refused:
        folder.share.open_file(location, os.O_RDONLY)
    location.close()
    assert refused.value.status == NtStatus.ACCESS_DENIED


def test_a_short_name_finds_its_file(folder: Folder) -> None:
    for name in ("A long name.text", "größe 😀", "SHORT.TXT"):
        (folder.path / name).touch()
        short = short_name(name)
        for spelling in (short, short.lower()):
            found = look_up(folder, spelling)
            assert (found.path, found.exists) == (name, True)
            found.close()
    assert not look_up(folder, "AAAAAA~A.TXT").exists


def test_create_rename_link_remove(folder: Folder) -> None:
    share = folder.share
    file = share.create_file(look_up(folder, "one"), 0)
    assert stat.S_IMODE(os.stat(folder.path / "one").st_mode) & ~0o644 == 0
    share.create_directory(look_up(folder, "folder"), 0).close()
    share.rename("one", "folder/two", replace=False)
    share.link(file.fd, "three", replace=False)
    assert os.stat(folder.path / "three").st_ino == file.identity[1]
    with pytest.raises(FileExistsError):
        share.rename("three", "folder/two", replace=False)
    share.remove("three", file.identity, is_directory=False)
    with pytest.raises(FileNotFoundError):
        share.remove("folder/two", (0, 0), is_directory=False)
    share.remove("folder/two", file.identity, is_directory=False)
    file.close()
    directory = share.open_directory(look_up(folder, "FOLDER"), to_list=False)
    assert directory.is_empty()
    share.remove("folder", directory.identity, is_directory=True)
    directory.close()
    assert list(folder.path.iterdir()) == []


def test_removing_a_link_leaves_its_target(folder: Folder) -> None:
    (folder.path / "target").touch()
    (folder.path / "link").symlink_to("target")
    location = look_up(folder, "link")
    facts = location.facts()
    location.close()
    folder.share.remove("link", (facts.st_dev, facts.st_ino), is_directory=False)
    assert [path.name for path in folder.path.iterdir()] == ["target"]


def test_veto_files_are_not_there(folder: Folder) -> None:
    from smbserver.parameters import Share as ShareParameters
    from smbserver.vfs import open_share

    (folder.path / "Thumbs.db").touch()
    share = open_share(ShareParameters(path=str(folder.path), veto_files=("*.DB",)))
    with pytest.raises(StatusError) as refused:
        share.look_up(parse_name("Thumbs.db"))
    share.close()
    assert refused.value.status == NtStatus.OBJECT_NAME_NOT_FOUND
