from __future__ import annotations

from pathlib import Path

import pytest

from smbserver import cli, testparm
from smbserver.config import load, parse

LINES = """\
[global]
    workgroup = LAB
    smb2 max read = 4M
    interfaces = "eth0;speed=100,capability=RSS" 10.0.0.1
    write ok = yes
[data]
    path = {folder}
    valid users = alice, "bob b"
    veto files = /*.tmp/.DS_Store/
    create mask = 640
[safe]
    path = {folder}
    read only = yes
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "smb.conf"
    path.write_text(LINES.format(folder=tmp_path))
    return str(path)


@pytest.mark.parametrize("verbose", [False, True])
def test_what_is_shown_means_the_same(file: str, verbose: bool) -> None:
    config = load(file)
    shown = list(testparm.effective(config, verbose=verbose))
    again = parse(shown)
    assert again.general == config.general
    assert again.shares == config.shares
    assert again.share_defaults == config.share_defaults
    assert not again.warnings


def test_only_what_differs_is_shown(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["testparm", "-s", file]) == 0
    shown = capsys.readouterr()
    assert "smb2 max read = 4M" in shown.out
    assert "smb2 max write" not in shown.out
    assert shown.out.count("read only = no") == 1
    assert shown.err == "accepted without effect: workgroup\n"
    assert cli.main(["testparm", "-s", "-v", file]) == 0
    assert "smb2 max write = 8M" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--parameter-name", "smb2 max read"], "4M"),
        (["--parameter-name", "SMB2  MAX READ SIZE"], "4M"),
        (["--section-name", "DATA", "--parameter-name", "create mode"], "0640"),
        (["--section-name", "data", "--parameter-name", "writable"], "yes"),
        (["--section-name", "safe", "--parameter-name", "writable"], "no"),
        (["--parameter-name", "read only"], "no"),
    ],
)
def test_one_value(
    file: str, arguments: list[str], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["testparm", "-s", file, *arguments]) == 0
    assert capsys.readouterr().out == f"{value}\n"


def test_one_section(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["testparm", "-s", "--section-name", "safe", file]) == 0
    assert capsys.readouterr().out.startswith("[safe]\n\tpath = ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--section-name", "none"],
        ["--parameter-name", "none"],
        ["--section-name", "data", "--parameter-name", "smb2 max read"],
        ["--option", "smb2 max read=much"],
        ["--configfile", "/nonexistent"],
    ],
)
def test_what_is_not_there_fails(
    file: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["testparm", "-s", file, *arguments]) == 1
    assert capsys.readouterr().err.startswith(("smbserver: ", "accepted "))


def test_wrong_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["testparm", "--section"])
    assert ended.value.code == 2


def test_folders_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "smb.conf"
    path.write_text(f"[gone]\npath = {tmp_path}/gone\nvalid user = x\n")
    assert cli.main(["testparm", "-s", str(path)]) == 0
    said = capsys.readouterr().err
    assert "[gone]: path = " in said
    assert "`valid users`" in said


def test_whom_the_system_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "smb.conf"
    share = f"path = {tmp_path}\n"
    path.write_text(
        f"[none]\n{share}force user = nouser\ngroup = +nogroup-\n"
        f"[some]\n{share}force user = root\nforce group = +root\n"
    )
    assert cli.main(["testparm", "-s", str(path)]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("[none]: ") == 2
    assert "force user = nouser: the system knows no such user" in shown.err
    assert "force group = +nogroup-: the system knows no such group" in shown.err
    assert "[some]" not in shown.err
    assert "\tforce group = +root\n" in shown.out


def test_would_this_host_be_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "smb.conf"
    path.write_text(f"[a]\npath = {tmp_path}\nhosts allow = 10.\n[b]\npath = {tmp_path}\n")
    assert cli.main(["testparm", "-s", str(path), "client", "192.0.2.1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Allow connection from client (192.0.2.1) to the server",
        "Deny connection from client (192.0.2.1) to a",
        "Allow connection from client (192.0.2.1) to b",
    ]
    assert cli.main(["testparm", "-s", str(path), "client"]) == 1
    assert "no address" in capsys.readouterr().err
