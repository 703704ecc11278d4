"""Two servers for the client's tests: Samba's smbd with a private configuration, and our own."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from smbserver import own_server
from smbserver.own_server import LOOPBACK, OwnServer, free_port, started, tcp_answers

PASSWORD = "Secret-1"

CONFIGURATION = """\
[global]
    netbios name = JUDGE
    workgroup = WORKGROUP
    server role = standalone server
    interfaces = lo
    bind interfaces only = yes
    smb ports = {port}
    disable netbios = yes
    private dir = {folder}/private
    lock directory = {folder}/lock
    state directory = {folder}/state
    cache directory = {folder}/cache
    pid directory = {folder}/pid
    ncalrpc dir = {folder}/ncalrpc
    log file = {folder}/log
    log level = 1
    passdb backend = tdbsam:{folder}/private/passdb.tdb
    map to guest = never
    load printers = no
    printing = bsd
    printcap name = /dev/null
    disable spoolss = yes
    server min protocol = SMB2_02
    server multi channel support = yes
    ea support = yes
    vfs objects = streams_xattr
[share]
    path = {folder}/share
    read only = no
[sealed]
    path = {folder}/share
    read only = no
    smb encrypt = required
"""


@dataclass(frozen=True)
class Target:
    """Where a server listens, whom it knows, what it shares: as `share`, and sealed as `sealed`."""

    port: int
    user: str
    password: str
    path: Path


@pytest.fixture(scope="session")
def smbd(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]
) -> Iterator[Target]:
    """A running smbd; skipped where it is missing or cannot run."""
    if os.geteuid() != 0:
        pytest.skip("smbd runs as root only")
    binary, folder, port = program("smbd"), tmp_path_factory.mktemp("smbd"), free_port()
    for name in ("private", "lock", "state", "cache", "pid", "ncalrpc", "share"):
        (folder / name).mkdir(mode=0o700)
    configuration = folder / "smb.conf"
    configuration.write_text(CONFIGURATION.format(port=port, folder=folder))
    user = getpass.getuser()
    subprocess.run(
        [program("smbpasswd"), "-c", configuration, "-L", "-s", "-a", user],
        input=f"{PASSWORD}\n{PASSWORD}\n",
        text=True,
        check=True,
        capture_output=True,
    )
    command = (binary, "--foreground", "--no-process-group", f"--configfile={configuration}")
    with started(command, folder / "output", lambda: tcp_answers(LOOPBACK, port)):
        yield Target(port, user, PASSWORD, folder / "share")


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A running smbserver with the same shares."""
    folder = tmp_path_factory.mktemp("ours")
    shared = folder / "share"
    shared.mkdir()
    sealed = ("[sealed]", f"path = {shared}", "read only = no", "smb encrypt = required")
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
