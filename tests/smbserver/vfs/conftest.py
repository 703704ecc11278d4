"""A share on a fresh folder, with something outside it that must never be reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from smbserver.parameters import Share as ShareParameters
from smbserver.vfs import Share, open_share


@dataclass
class Folder:
    """The shared folder, what lies beside it, and the share."""

    path: Path
    outside: Path
    share: Share


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """An empty share; `outside/secret` holds what no client may see."""
    path, outside = tmp_path / "share", tmp_path / "outside"
    path.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret")
    share = open_share(ShareParameters(name="share", path=str(path), read_only=False))
    yield Folder(path, outside, share)
    share.close()
