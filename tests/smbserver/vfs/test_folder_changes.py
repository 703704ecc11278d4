"""Changes in folders, as CHANGE_NOTIFY tells them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smbserver.vfs import folder_changes
from smbserver.vfs.folder_changes import FolderChanges
from smbserver.vfs.watches import WATCHES
from smbserver.wire.change_notify import CompletionFilter, FileAction

ALL = 0xFFF
A, R, M, OLD, NEW = (
    FileAction.ADDED,
    FileAction.REMOVED,
    FileAction.MODIFIED,
    FileAction.RENAMED_OLD_NAME,
    FileAction.RENAMED_NEW_NAME,
)


class Follower:
    """What was told of one folder."""

    def __init__(self, path: Path, kinds: int, tree: bool) -> None:
        self.told: list[tuple[int, str]] = []
        self.lost = False
        self.asked = 0
        self._kinds = kinds
        self.fd = os.open(path, os.O_RDONLY)
        whose = contextlib.nullcontext()
        self.changes = FolderChanges(self.fd, kinds, whose, self._tell, self._soon)
        self.changes.follow(tree=tree)

    def _tell(self, kinds: int, action: int, path: str) -> None:
        self.lost = self.lost or not kinds
        if kinds & self._kinds:
            self.told.append((action, path))

    def _soon(self) -> None:
        self.asked += 1

    def take(self) -> list[tuple[int, str]]:
        WATCHES.follow()
        told, self.told = self.told, []
        return told


@contextlib.contextmanager
def following(path: Path, kinds: int = ALL, tree: bool = False) -> Iterator[Follower]:
    follower = Follower(path, kinds, tree)
    try:
        yield follower
    finally:
        follower.changes.close()
        os.close(follower.fd)


def test_names(tmp_path: Path) -> None:
    with following(tmp_path) as one:
        (tmp_path / "a").touch()
        (tmp_path / "d").mkdir()
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "b").unlink()
        (tmp_path / "d").rmdir()
        assert one.take() == [(A, "a"), (A, "d"), (OLD, "a"), (NEW, "b"), (R, "b"), (R, "d")]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (CompletionFilter.FILE_NAME, [(A, "a")]),
        (CompletionFilter.DIR_NAME, [(A, "d")]),
        (CompletionFilter.SIZE, [(M, "a")]),
        (CompletionFilter.SECURITY, [(M, "old")]),
        (CompletionFilter.STREAM_NAME, []),
    ],
)
def test_filters(tmp_path: Path, kind: int, told: list[tuple[int, str]]) -> None:
    (tmp_path / "old").mkdir()
    with following(tmp_path, kind) as one:
        (tmp_path / "d").mkdir()
        (tmp_path / "a").write_bytes(b"1")
        (tmp_path / "old").chmod(0o700)
        assert one.take() == told


def test_the_attributes_of_a_new_file_are_part_of_its_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with following(tmp_path) as one:
        (tmp_path / "a").touch()
        (tmp_path / "a").chmod(0o600)
        assert one.take() == [(A, "a")]
        assert not one.asked
        monkeypatch.setattr(folder_changes, "MAKING", 0)
        (tmp_path / "a").chmod(0o640)
        assert one.take() == [(M, "a")]


@pytest.mark.parametrize("away", [Path.unlink, lambda path: path.rename(path.parent / "b")])
def test_what_is_made_again_is_told_again(tmp_path: Path, away: Callable[[Path], None]) -> None:
    with following(tmp_path) as one:
        for _ in range(2):
            (tmp_path / "a").touch()
            away(tmp_path / "a")
        assert [path for action, path in one.take() if action == A] == ["a", "a"]


def test_what_was_made_long_ago_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_changes, "MAKING", 0)
    with following(tmp_path) as one:
        for number in range(100):
            (tmp_path / str(number)).touch()
        assert len(one.take()) == 100
        assert len(one.changes._made) == 1


def test_what_was_made_in_a_folder_that_moved_since(tmp_path: Path) -> None:
    with following(tmp_path, tree=True) as one:
        for name in ("b", "c"):
            (tmp_path / "a").mkdir()
            WATCHES.follow()
            (tmp_path / "a" / "file").touch()
            (tmp_path / "a").rename(tmp_path / name)
        assert one.take().count((A, "a/file")) == 2


def test_a_rename_out_of_the_folder_is_a_removal(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").touch()
    with following(tmp_path / "in") as one:
        (tmp_path / "in" / "a").rename(tmp_path / "a")
        assert one.take() == []
        one.changes.settle()
        assert one.told == [], "the other half may lie in the queue"
        one.changes.settle()
        assert one.take() == [(R, "a")]
        (tmp_path / "a").rename(tmp_path / "in" / "a")
        assert one.take() == [(A, "a")]


def test_a_tree_and_folders_that_move_in_it(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    with following(tmp_path, tree=True) as one:
        (tmp_path / "x" / "y" / "a").touch()
        (tmp_path / "x").rename(tmp_path / "z")
        (tmp_path / "z" / "y" / "a").rename(tmp_path / "z" / "b")
        assert one.take() == [(A, "x/y/a"), (OLD, "x"), (NEW, "z"), (R, "z/y/a"), (A, "z/b")]
        (tmp_path / "new" / "deep").mkdir(parents=True)
        (tmp_path / "new" / "deep" / "c").touch()
        assert one.take() == [(A, "new"), (A, "new/deep"), (A, "new/deep/c")]
        (tmp_path / "new" / "deep" / "c").unlink()
        assert one.take() == [(R, "new/deep/c")]


def test_a_tree_has_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folder_changes, "MAX_FOLDERS", 3)
    for name in "abcdef":
        (tmp_path / name).mkdir()
    with following(tmp_path, tree=True) as one:
        assert len(one.changes._folders) == 3
        (tmp_path / "more").touch()
        assert one.take() == [(A, "more")]
    assert "3 are followed, which is the most" in caplog.text
    assert folder_changes._followed == 0


def test_a_folder_from_the_future_has_not_changed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    later = time.time() + 1e6
    os.utime(tmp_path / "d", (later, later))

    async def work() -> None:
        with following(tmp_path, tree=True) as one:
            while one.changes._walking is not None:
                await asyncio.sleep(0)
            assert not one.lost

    asyncio.run(work())


@pytest.mark.parametrize("change", ["followed", "not yet followed", "renamed"])
def test_a_large_tree_is_walked_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(folder_changes, "SLICE", 2)
    for name in "abcd":
        (tmp_path / name / "deep").mkdir(parents=True)

    async def work() -> None:
        with following(tmp_path, tree=True) as one:
            _, first = sorted(one.changes._folders)
            other = "a" if first != "a" else "b"
            if change == "renamed":
                (tmp_path / other).rename(tmp_path / "z")
            elif change == "followed":
                (tmp_path / first / "file").touch()
            else:
                (tmp_path / other / "deep" / "file").touch()
                later = one.changes._walk_began_ns + 1
                os.utime(tmp_path / other / "deep", ns=(later, later))
            WATCHES.follow()
            while one.changes._walking is not None:
                await asyncio.sleep(0)
            assert len(one.changes._folders) == 9
            assert one.lost == (change == "not yet followed")
            (tmp_path / first / "deep" / "late").touch()
            assert one.take()[-1] == (A, f"{first}/deep/late")

    asyncio.run(work())
    assert folder_changes._followed == 0


def test_our_own_changes_say_what_they_are(tmp_path: Path) -> None:
    async def work() -> None:
        with following(tmp_path, CompletionFilter.EA | CompletionFilter.SECURITY) as one:
            (tmp_path / "a").touch()
            WATCHES.listen()
            with WATCHES.meaning(CompletionFilter.ATTRIBUTES):
                (tmp_path / "a").chmod(0o600)
            assert one.take() == []
            with WATCHES.meaning(CompletionFilter.EA):
                (tmp_path / "a").chmod(0o600)
            assert one.take() == [(M, "a")]
            WATCHES.unlisten()

    asyncio.run(work())
