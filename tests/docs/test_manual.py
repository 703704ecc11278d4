"""The manual pages: man(1) reads them, and they say what the programs do."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import rdmaproxy.config
import smbserver.cli
from smbserver.parameters import GENERAL, SHARE, WITHOUT_EFFECT, General, Share, spelled

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("smbserver.8", "smbserver.conf.5", "rdmaproxy.8", "rdmaproxy.conf.5")


@pytest.fixture(scope="module")
def manual() -> ModuleType:
    spec = importlib.util.spec_from_file_location("manual", ROOT / "docs" / "manual.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def read(
    manual: ModuleType, program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """A page as man(1) shows it, all blanks alike; fails if man has anything to say about it."""
    folder = tmp_path_factory.mktemp("man")
    man = program("man")

    def read(name: str) -> str:
        path = folder / name
        path.write_text(manual.pages()[name])
        shown = subprocess.run(
            [man, "--warnings", "--no-hyphenation", "-l", str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "200", "MANPAGER": "cat"},
        )
        assert not shown.stderr
        return re.sub(r"\s+", " ", re.sub(".\b", "", shown.stdout))

    return read


def test_there_are_four(manual: ModuleType) -> None:
    assert set(manual.pages()) == set(NAMES)


@pytest.mark.interop
@pytest.mark.parametrize("name", NAMES)
def test_man_reads_it(read: Callable[[str], str], name: str) -> None:
    assert name.rpartition(".")[0].upper() in read(name)


@pytest.mark.interop
@pytest.mark.parametrize("values", [General(), Share()], ids=["global", "share"])
def test_documentation_and_defaults_are_those_of_the_program(
    read: Callable[[str], str], values: General | Share
) -> None:
    page = read("smbserver.conf.5")
    for name, (member, declared) in (GENERAL if isinstance(values, General) else SHARE).items():
        if name in declared.synonyms:
            assert re.search(rf"Synonyms: [^.]*\b{name}\b", page), name
            continue
        meaning = f" {name} {declared.documentation} Value: {declared.kind.allowed}."
        assert f"{meaning} Default: {spelled(values, member) or 'empty'}." in page, name


@pytest.mark.interop
def test_all_names_without_effect_are_listed(read: Callable[[str], str]) -> None:
    page = read("smbserver.conf.5")
    assert not [name for name in WITHOUT_EFFECT if name not in page]


@pytest.mark.interop
def test_the_proxys_parameters(read: Callable[[str], str]) -> None:
    page = read("rdmaproxy.conf.5")
    for name, field in rdmaproxy.config.PARAMETERS.items():
        default = rdmaproxy.config.spelled(field.default) or "empty"
        meaning = f"{name.replace('_', ' ')} {field.metadata['meaning']}"
        assert f"{meaning} Default: {default}." in page, name


@pytest.mark.interop
def test_every_command_and_option(read: Callable[[str], str]) -> None:
    page = read("smbserver.8")
    usage = smbserver.cli.parser().format_help()
    for name in re.findall(r"^    (\w+) ", usage, re.MULTILINE):
        assert f"smbserver {name} [-h]" in page, name
