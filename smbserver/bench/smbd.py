"""Samba's smbd as a yardstick, stock or tuned."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
from collections.abc import Iterator
from pathlib import Path

from smbserver.bench.processes import Watched
from smbserver.own_smbd import SmbdMissing, running_smbd

__all__ = ["TUNINGS", "Smbd", "SmbdMissing", "running"]

TUNINGS: dict[str, tuple[str, ...]] = {
    "stock": (),
    "tuned": (
        "use sendfile = yes",
        "aio read size = 0",
        "aio write size = 0",
        "min receivefile size = 16384",
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Smbd:
    port: int
    user: str
    watched: Watched


@contextlib.contextmanager
def running(folder: Path, tuning: str, share: str, path: Path, password: str) -> Iterator[Smbd]:
    user = getpass.getuser()
    section = (f"[{share}]", f"path = {path}", "read only = no", f"force user = {user}")
    with running_smbd(folder, {user: password}, (*TUNINGS[tuning], *section)) as smbd:
        yield Smbd(smbd.port, user, Watched("smbd", smbd.pid))
