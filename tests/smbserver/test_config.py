from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from smbserver.config import Config, ConfigError, load, parse
from smbserver.parameters import GENERAL, LIMITING, SHARE, WITHOUT_EFFECT, General, Share, spelled


def test_defaults() -> None:
    config = parse([])
    assert config.general == General()
    assert not config.shares


def included(folder: Path, **files: str) -> Config:
    """What `main` says with the other files beside it."""
    for name, text in files.items():
        (folder / name).write_text(text)
    return load(folder / "main")


def test_include(tmp_path: Path) -> None:
    """The section goes on in the other file, and after it the one in which that ended."""
    config = included(
        tmp_path,
        main="[a]\npath = /a\n Include = other-%S\ncomment = b's\n[c]\npath = /c\n",
        **{"other-a": "read only = no\n[b]\npath = /b\n"},
    )
    share = config.share("a")
    assert share is not None
    assert not share.read_only
    assert [share.comment for share in config.shares.values()] == ["", "b's", ""]
    assert not config.warnings


@pytest.mark.parametrize("name", ["none", "/etc/smb.conf.%m", "."])
def test_what_cannot_be_included_is_said(tmp_path: Path, name: str) -> None:
    config = included(tmp_path, main=f"[a]\npath = /a\ninclude = {name}\ncomment = c\n")
    share = config.share("a")
    assert share is not None
    assert share.comment == "c"
    (warning,) = config.warnings
    assert warning.startswith(f"{tmp_path}/main:3: ")
    assert "not included" in warning


def test_a_file_that_includes_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="would be file 10 in file: does it include itself"):
        included(tmp_path, main="include = other", other="include = main")


def test_wrong_words_of_an_included_file_name_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"other:2: 'nonsense' is no setting"):
        included(tmp_path, main="include = other", other="\nnonsense")


def test_sections_comments_continuation_quotes() -> None:
    config = parse(
        r"""
        # comment
        ; comment
        [GLOBAL]
            Server   Min Protocol = SMB3
            interfaces = "eth0;speed=100,capability=RSS" \
                         10.0.0.1
            smb2 max read = 1M
        [Music]
            path = /srv/music
            comment = "a; b # c"
            writable = yes
            create mask = 0640
            valid users = alice, "bob b"
            veto files = /*.tmp/.DS_Store/
        """.splitlines()
    )
    assert config.general.server_min_protocol == "smb3_11"
    assert config.general.interfaces == ("eth0;speed=100,capability=RSS", "10.0.0.1")
    assert config.general.smb2_max_read == 1 << 20
    share = config.share("MUSIC")
    assert share is not None
    assert dataclasses.replace(share) == Share(
        name="Music",
        path="/srv/music",
        comment="a; b # c",
        read_only=False,
        create_mask=0o640,
        valid_users=("alice", "bob b"),
        veto_files=("*.tmp", ".DS_Store"),
    )


def test_share_parameters_in_global_are_defaults() -> None:
    config = parse(
        ["[global]", "read only = no", "[a]", "path = /a", "[b]", "path=/b", "read only=yes"]
    )
    assert [share.read_only for share in config.shares.values()] == [False, True]


def test_variables() -> None:
    config = parse(["[one]", "path = /srv/%S", "comment = 100%% %S"])
    share = config.share("one")
    assert share is not None
    assert (share.path, share.comment) == ("/srv/one", "100% one")


def test_options_win() -> None:
    config = parse(["[global]", "log level = debug"], options=["Log Level=error"])
    assert config.general.log_level == "error"


@pytest.mark.parametrize(
    "lines",
    [
        ["[global"],
        ["[]"],
        ["nothing"],
        ["[global]", "smb2 max read = lots"],
        ["[global]", "bind interfaces only = maybe"],
        ["[global]", "server min protocol = NT1"],
        ["[share]", "path = /x", "create mask = 9"],
        ["[share]"],
    ],
)
def test_errors_name_the_place(lines: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"smb\.conf"):
        parse(lines)


def test_unknown_names_are_told_with_the_nearest() -> None:
    config = parse(["[global]", "smb2 max reed = 1", "foo:bar = 1", "dns proxy = no"])
    (warning,) = config.warnings
    assert "smb2 max read" in warning
    assert "smb.conf:2" in warning
    assert config.without_effect == ("foo:bar", "dns proxy")


def test_who_sets_a_limit_that_does_not_hold_is_warned() -> None:
    config = parse(["[share]", "path = /x", "hide unwriteable files = yes", "smb2 max read = 1"])
    assert ["limit access" in warning for warning in config.warnings] == [True, False]
    assert "[global] only" in config.warnings[1]


def test_names_with_an_effect_are_not_among_those_without() -> None:
    assert LIMITING < WITHOUT_EFFECT
    assert not WITHOUT_EFFECT & {*GENERAL, *SHARE}


@pytest.mark.interop
def test_every_name_of_samba_is_known(program: Callable[[str], str]) -> None:
    shown = subprocess.run(
        [program("testparm"), "-sv", "/dev/null"], capture_output=True, text=True, check=True
    ).stdout
    names = {line.partition("=")[0].strip().lower() for line in shown.splitlines() if "=" in line}
    assert len(names) > 400
    assert {one for one in names if ":" not in one} <= {
        "include",
        *GENERAL,
        *SHARE,
        *WITHOUT_EFFECT,
    }


def test_opposites_in_global() -> None:
    config = parse(
        ["[global]", "writable = yes", "[a]", "path = /a", "[b]", "path=/b", "read only=1"]
    )
    assert [share.read_only for share in config.shares.values()] == [False, True]
    assert not config.share_defaults.read_only


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none")


@pytest.mark.parametrize("scope", [General, Share])
def test_every_parameter_is_declared_once_with_its_meaning(
    scope: type[General] | type[Share],
) -> None:
    known = GENERAL if scope is General else SHARE
    names = [name for name, _ in known.items()]
    assert len(set(names)) == len(names)
    for member in dataclasses.fields(scope):
        declaration = member.metadata.get("parameter")
        if declaration is not None:
            assert declaration.documentation.endswith(".")
            kind = declaration.kind
            assert kind.parse(spelled(scope(), member.name)) == member.default
            assert kind.allowed
