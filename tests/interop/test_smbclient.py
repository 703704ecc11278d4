"""Samba's smbclient against the real server: the first foreign client."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from smbserver.own_server import OwnServer
from smbserver.vfs.names import fold
from tests.interop.conftest import FOREIGN_SECONDS, digest

pytestmark = pytest.mark.interop

NAMES = ("with spaces.txt", "Größe äöüß.txt", "Umläut 😀🎉.txt", "a&b + c'd.txt")

PROTECTIONS = [
    ("SMB2_02", "sign"),
    ("SMB2_10", "sign"),
    ("SMB3_00", "sign"),
    ("SMB3_00", "encrypt"),
    ("SMB3_02", "sign"),
    ("SMB3_11", "off"),
    ("SMB3_11", "sign"),
    ("SMB3_11", "encrypt"),
]

Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(program: Callable[[str], str], server: OwnServer) -> Run:
    """Runs smbclient's commands in the share; what it printed."""
    smbclient = program("smbclient")

    def commands(*commands: str, dialect: str = "SMB3_11", protection: str = "sign") -> str:
        finished = subprocess.run(
            [
                smbclient,
                f"//127.0.0.1/{server.share}",
                *("-p", str(server.port), "-U", f"{server.user}%{server.password}"),
                *("-m", dialect, f"--client-protection={protection}", "-c", "; ".join(commands)),
            ],
            capture_output=True,
            text=True,
            timeout=FOREIGN_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout + finished.stderr

    return commands


@pytest.mark.timeout(3 * FOREIGN_SECONDS)
@pytest.mark.parametrize(("dialect", "protection"), PROTECTIONS)
def test_a_session(
    run: Run, server: OwnServer, content: Path, tmp_path: Path, dialect: str, protection: str
) -> None:
    back = tmp_path / "back"

    def session(*commands: str) -> str:
        return run(*commands, dialect=dialect, protection=protection)

    session("mkdir folder", f"put {content} folder\\file", "ls folder\\*")
    assert digest(server.path / "folder" / "file") == digest(content)
    session(f"get folder\\file {back}", "rename folder\\file moved")
    assert digest(back) == digest(content)
    back.unlink()
    assert sorted(os.listdir(server.path)) == ["folder", "moved"]
    assert "moved" in session("ls")
    session("del moved", "rmdir folder")
    assert os.listdir(server.path) == []


@pytest.mark.parametrize("name", NAMES)
def test_names(run: Run, server: OwnServer, tmp_path: Path, name: str) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_text(name)
    printed = run(
        f'mkdir "folder {name}"',
        f'put "{source}" "folder {name}\\{name}"',
        f'ls "folder {name}\\*"',
        f'get "folder {name}\\{name}" "{back}"',
    )
    assert name in printed
    assert back.read_text() == name
    assert (server.path / f"folder {name}" / name).read_text() == name
    upper = fold(name)
    run(f'del "FOLDER {upper}\\{upper}"', f'rmdir "folder {name}"')
    assert os.listdir(server.path) == []


def test_renaming_between_folders_and_patterns(run: Run, server: OwnServer) -> None:
    (server.path / "one").mkdir()
    (server.path / "two").mkdir()
    for name in ("a.txt", "b.TXT", "c.md"):
        (server.path / "one" / name).write_text(name)
    run("rename one\\a.txt two\\z.txt")
    assert (server.path / "two" / "z.txt").read_text() == "a.txt"
    printed = run("ls one\\*.txt")
    assert "b.TXT" in printed
    assert "c.md" not in printed
    run("cd one", "prompt", "mask *", "del *", "cd ..", "deltree two", "rmdir one")
    assert os.listdir(server.path) == []


def test_what_smbclient_shows_of_a_file(run: Run, server: OwnServer) -> None:
    (server.path / "file").write_text("12345")
    (server.path / "file").chmod(0o640)
    printed = run("setmode file +h", "volume", "du", "ls file")
    assert f"|{server.share}|" in printed
    assert "Total number of bytes: 5" in printed
    assert re.search(r"\bfile +H +5 ", printed)
    run("setmode file -h", 'utimes file -1 "16:01:01-10:20:30" -1 -1', "del file")


def test_wrong_names_are_refused(run: Run, server: OwnServer, tmp_path: Path) -> None:
    (server.path / "out").symlink_to(tmp_path)
    (tmp_path / "secret").write_text("secret")
    for name in ("out\\secret", "..\\secret", "missing"):
        with pytest.raises(AssertionError, match="NT_STATUS_"):
            run(f"get {name} {tmp_path / 'stolen'}")
    assert not (tmp_path / "stolen").exists()
    (server.path / "out").unlink()


def test_the_client_sees_what_a_dialect_cannot(run: Run) -> None:
    with pytest.raises(AssertionError, match="doesn't support SMB3 encryption"):
        run("ls", dialect="SMB2_02", protection="encrypt")


def test_shares_are_listed(program: Callable[[str], str], server: OwnServer) -> None:
    account = f"{server.user}%{server.password}"
    finished = subprocess.run(
        [program("smbclient"), "-L", "127.0.0.1", "-p", str(server.port), "-U", account],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    kinds = dict(line.split()[:2] for line in finished.stdout.splitlines() if len(line.split()) > 1)
    assert kinds[server.share] == "Disk"
    assert kinds["IPC$"] == "IPC"
