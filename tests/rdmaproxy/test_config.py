"""The configuration: every parameter's default, its bounds, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdmaproxy.config import PARAMETERS, Config, ConfigError, describe, load
from rdmaproxy.daemon import engine_config


def test_the_example_file_says_the_defaults(tmp_path: Path) -> None:
    example = tmp_path / "rdmaproxy.conf"
    example.write_text(describe())
    assert load(str(example)) == Config() == load(None)


def test_every_parameter_is_explained() -> None:
    for name, field in PARAMETERS.items():
        assert field.metadata["meaning"].endswith("."), name
        assert f"\n{name.replace('_', ' ')} =" in describe()


def test_names_and_values_are_read_as_samba_does(tmp_path: Path) -> None:
    file = tmp_path / "conf"
    file.write_text(
        "[Global]\n; a comment\n  Memory Limit = 2g\n  allow users = alice, bob 1000\n"
        "  iwarp_crc = Yes\n  Idle-Timeout = 1.5\n  metrics endpoint = [::1]:9923\n"
    )
    config = load(str(file), ["memory limit=64K", "READ DEPTH = 4"])
    assert config.memory_limit == 65536
    assert config.allow_users == ("alice", "bob", "1000")
    assert config.iwarp_crc is True
    assert config.metrics_endpoint == ("::1", 9923)
    engine = engine_config(config)
    assert (engine.read_depth, engine.idle_timeout_ms, engine.iwarp_crc) == (4, 1500, True)
    assert engine.memory_limit == 65536


def test_times_are_never_rounded_to_the_default() -> None:
    assert engine_config(load(None, ["send timeout=0.0001"])).send_timeout_ms == 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("memory limit", "not of the form NAME=VALUE"),
        ("memroy limit=1", "no parameter 'memroy limit'"),
        ("memory limit=much", "memory limit = much: is not a number"),
        ("memory limit=-1", "must be from 0"),
        ("max connections=0", "must be from 1"),
        ("read depth=256", "must be from 0 to 255"),
        ("iwarp crc=maybe", "neither yes nor no"),
        ("idle timeout=soon", "not a number of seconds"),
        ("metrics endpoint=9923", "ADDRESS:PORT"),
        ("metrics endpoint=localhost:99999", "ADDRESS:PORT"),
    ],
)
def test_mistakes_are_told(option: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(None, [option])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[shares]\nx = 1\n", "no section"),
        (b"memory limit = 1\n", "section"),
        (b"[global]\n\xff = 1\n", "utf-8"),
    ],
)
def test_bad_files_are_told(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "conf"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        load(str(file))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(str(tmp_path / "nowhere"))
