from __future__ import annotations

import os

from smbserver.parameters import Share as ShareParameters
from smbserver.vfs import dos_attributes as dos
from smbserver.vfs import open_share
from smbserver.vfs.directory import Directory

from .conftest import Folder


def test_a_listing_shows_all_that_there_is(folder: Folder) -> None:
    for name in ("b", "a b", "größe 😀", ".hidden", "star*", "back\\slash"):
        (folder.path / name).touch()
    (folder.path / "dir").mkdir()
    with open(os.fsencode(folder.path) + b"/\xff", "w"):
        pass
    directory = Directory(os.open(folder.path, os.O_RDONLY), metadata_only=False)
    assert directory.names() == [
        *(".", "..", ".hidden", "a b", "b", "back\\slash", "dir", "größe 😀", "star*", "\udcff")
    ]
    share = folder.share
    assert share.entry(directory, "", "dir").attributes == dos.DIRECTORY
    assert share.entry(directory, "", "b").attributes == dos.NORMAL
    assert share.entry(directory, "", ".hidden").attributes == dos.HIDDEN
    shown = open_share(ShareParameters(path=str(folder.path), hide_dot_files=False))
    assert shown.entry(directory, "", ".hidden").attributes == dos.NORMAL
    shown.close()
    assert share.entry(directory, "", "..").inode == os.stat(folder.path).st_ino
    assert share.entry(directory, "", "gone") is None
    assert not directory.is_empty()
    directory.close()


def test_links_show_what_they_lead_to_or_nothing(folder: Folder) -> None:
    (folder.path / "file").write_text("12345")
    (folder.path / "link").symlink_to("file")
    (folder.path / "out").symlink_to(folder.outside / "secret")
    directory = Directory(os.open(folder.path, os.O_RDONLY), metadata_only=False)
    assert folder.share.entry(directory, "", "link").size == 5
    assert folder.share.entry(directory, "", "out") is None
    directory.close()
