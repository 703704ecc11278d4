"""Samba's smbd of one's own: the yardstick of the benchmark, and a judge beside ours in tests.

Its configuration, databases and log lie in one folder, and it is stopped by its pid. It runs as root only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from smbserver.own_server import LOOPBACK, free_port, started, tcp_answers

CONFIGURATION = """\
[global]
    netbios name = OWN
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
    map to guest = never
    load printers = no
    printing = bsd
    printcap name = /dev/null
    disable spoolss = yes
    server min protocol = SMB2_02
{lines}
"""


class SmbdMissing(Exception):
    """smbd cannot run here; the sentence says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunningSmbd:
    port: int
    pid: int


def program() -> str:
    """Its path; SmbdMissing where it cannot be started."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("smbd", path=path)
    if found is None:
        raise SmbdMissing("smbd is not installed (Debian: apt-get install samba)")
    if os.geteuid() != 0:
        raise SmbdMissing("smbd runs as root only, and this is an ordinary user")
    return found


@contextlib.contextmanager
def running_smbd(
    folder: Path, passwords: Mapping[str, str], lines: Iterable[str]
) -> Iterator[RunningSmbd]:
    """An smbd in `folder`, on a free port of 127.0.0.1.

    `passwords`: of the host's users that have an account there. `lines`: more of [global], then the shares' sections.
    """
    smbd, port = program(), free_port()
    for name in ("lock", "state", "cache", "pid", "ncalrpc"):
        (folder / name).mkdir(parents=True, mode=0o755)
    (folder / "private").mkdir(mode=0o700)
    configuration = folder / "smb.conf"
    configuration.write_text(CONFIGURATION.format(port=port, folder=folder, lines="\n".join(lines)))
    for user, password in passwords.items():
        _add_account(configuration, user, password)
    # smbd ends when a pipe on its stdin closes, and on SIGTERM it signals its whole process group.
    command = (smbd, "--foreground", "--no-process-group", f"--configfile={configuration}")
    with started(command, folder / "output", lambda: tcp_answers(LOOPBACK, port)) as process:
        yield RunningSmbd(port, process.pid)


def _add_account(configuration: Path, user: str, password: str) -> None:
    subprocess.run(
        ["smbpasswd", "-c", configuration, "-L", "-s", "-a", user],
        input=f"{password}\n{password}\n",
        text=True,
        check=True,
        capture_output=True,
    )
