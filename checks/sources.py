"""Which files are ours: what every check looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("smbdirect", "rdmaproxy", "smbserver")
FOLDERS = (*PACKAGES, "csrc", "docs", "tests", "checks")
GENERATED = ("rdmaproxy/_engine.c", "smbserver/bench/_raw.c")


def files(*suffixes: str, folders: tuple[str, ...] = FOLDERS) -> Iterator[Path]:
    """Files of ours with one of these suffixes, in order of name."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file() and shown(path) not in GENERATED:
                yield path


def shown(path: Path) -> str:
    """The path as a reader of the project would write it."""
    return path.relative_to(ROOT).as_posix()
