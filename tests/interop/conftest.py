"""What foreign clients write and read back: FOREIGN_MIB of random bytes, 64 unless the environment says more."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

MIB = 1 << 20
FOREIGN_MIB = int(os.environ.get("FOREIGN_MIB", "64"))
FOREIGN_SECONDS = 100 + FOREIGN_MIB
"""For one session of a client that signs, encrypts and copies in Python, on a machine that is busy."""


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of FOREIGN_MIB."""
    folder = tmp_path_factory.mktemp("content")
    if shutil.disk_usage(folder).free < 4 * FOREIGN_MIB * MIB:
        pytest.skip(f"{folder} has no room for three files of {FOREIGN_MIB} MiB")
    path = folder / "content"
    with path.open("wb") as file:
        for _ in range(FOREIGN_MIB):
            file.write(os.urandom(MIB))
    yield path
    path.unlink()
