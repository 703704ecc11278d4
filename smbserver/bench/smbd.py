"""Samba's smbd as a yardstick: one server of our own in a folder of the run, stock or tuned, stopped by pid."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from smbserver.bench.processes import Watched
from smbserver.own_server import LOOPBACK, free_port, started, tcp_answers

CONFIGURATION = """\
[global]
    netbios name = BENCH
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
    max log size = 0
    passdb backend = tdbsam:{folder}/private/passdb.tdb
    load printers = no
    printing = bsd
    printcap name = /dev/null
    disable spoolss = yes
    server min protocol = SMB2_02
{tuning}
[{share}]
    path = {path}
    read only = no
    force user = {account}
"""
TUNINGS = {
    "stock": "",
    "tuned": """\
    use sendfile = yes
    aio read size = 0
    aio write size = 0
    min receivefile size = 16384
""",
}


class SmbdMissing(Exception):
    """smbd cannot be measured here; the sentence says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Smbd:
    port: int
    user: str
    watched: Watched


def program() -> str:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("smbd", path=path)
    if found is None:
        raise SmbdMissing("smbd is not installed (Debian: apt-get install samba)")
    if os.geteuid() != 0:
        raise SmbdMissing("smbd runs as root only, and this is an ordinary user")
    return found


@contextlib.contextmanager
def running_smbd(
    folder: Path, tuning: str, share: str, path: Path, password: str
) -> Iterator[Smbd]:
    smbd = program()
    user, port = getpass.getuser(), free_port()
    for name in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
        (folder / name).mkdir(parents=True, mode=0o700)
    configuration = folder / "smb.conf"
    configuration.write_text(
        CONFIGURATION.format(
            port=port, folder=folder, tuning=TUNINGS[tuning], share=share, path=path, account=user
        )
    )
    _add_user(configuration, user, password)
    # smbd ends when a pipe on its stdin closes, and on SIGTERM it signals its whole process group.
    command = (smbd, "--foreground", "--no-process-group", f"--configfile={configuration}")
    with started(command, folder / "output", lambda: tcp_answers(LOOPBACK, port)) as process:
        yield Smbd(port, user, Watched("smbd", process.pid))


def _add_user(configuration: Path, user: str, password: str) -> None:
    subprocess.run(
        ["smbpasswd", "-c", configuration, "-L", "-s", "-a", user],
        input=f"{password}\n{password}\n",
        text=True,
        check=True,
        capture_output=True,
    )
