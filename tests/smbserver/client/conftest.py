"""Two servers for the client's tests: Samba's smbd with a private configuration, and our own."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from smbserver import own_server
from smbserver.own_server import OwnServer, free_port
from smbserver.own_smbd import SmbdMissing, running_smbd

PASSWORD = "Secret-1"

SEALED = "smb encrypt = required"


@dataclass(frozen=True)
class Target:
    """Where a server listens, whom it knows, what it shares: as `share`, and sealed as `sealed`."""

    port: int
    user: str
    password: str
    path: Path


def section(name: str, path: Path, *more: str) -> tuple[str, ...]:
    return (f"[{name}]", f"path = {path}", "read only = no", *more)


@pytest.fixture(scope="session")
def smbd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A running smbd; skipped where it is missing or cannot run."""
    folder, user = tmp_path_factory.mktemp("smbd"), getpass.getuser()
    shared = folder / "share"
    shared.mkdir(mode=0o700)
    lines = (
        *("server multi channel support = yes", "ea support = yes", "vfs objects = streams_xattr"),
        *section("share", shared),
        *section("sealed", shared, SEALED),
    )
    try:
        with running_smbd(folder, {user: PASSWORD}, lines) as running:
            yield Target(running.port, user, PASSWORD, shared)
    except SmbdMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A running smbserver with the same shares."""
    folder = tmp_path_factory.mktemp("ours")
    shared = folder / "share"
    shared.mkdir()
    sealed = section("sealed", shared, SEALED)
    made = OwnServer(
        folder=folder, path=shared, port=free_port(), rdma_port=free_port(), options=sealed
    )
    with own_server.running(made):
        yield Target(made.port, made.user, made.password, shared)


@pytest.fixture(params=["smbd", "ours"])
def target(request: pytest.FixtureRequest) -> Target:
    """Each test once per server."""
    found: Target = request.getfixturevalue(request.param)
    return found
