"""What a C program of the tests is linked with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parent.parent.parent / "csrc"
CRYPTO = Path("/usr/include/openssl/evp.h")


def linked(program: Path) -> list[str]:
    """The files of csrc/ and the libraries that its first line names: `/* SOURCES: a.c b.c -lcrypto */`."""
    first = program.read_text().split("\n", 1)[0]
    match = re.fullmatch(r"/\* SOURCES:(.*)\*/", first.strip())
    assert match, f"{program.name}: the first line must be /* SOURCES: a.c b.c */, it is: {first}"
    names = match[1].split()
    if "-lcrypto" in names and not CRYPTO.exists():
        pytest.skip("the headers of libcrypto are not installed (Debian: libssl-dev)")
    return [name if name.startswith("-l") else str(CSRC / name) for name in names]
