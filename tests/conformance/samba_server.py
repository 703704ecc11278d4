"""Samba's smbd with the same shares: the yardstick, live."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from smbserver.bench.smbd import program
from smbserver.own_server import LOOPBACK, free_port, started, tcp_answers
from tests.conformance.accounts import PASSWORD, Accounts
from tests.conformance.shares import GLOBAL_OPTIONS, Folder

CONFIGURATION = """\
[global]
    netbios name = SMBBASE
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
    unix extensions = no
    server min protocol = SMB2_02
    kernel oplocks = no
    kernel share modes = no
    posix locking = no
    store dos attributes = yes
    map archive = no
    ea support = yes
    dos filemode = yes
    strict rename = yes
    strict sync = yes
    vfs objects = streams_xattr acl_xattr
    admin users = {administrator}
    # Controls that only smbtorture sends.
    smbd:FSCTL_SMBTORTURE = yes
    smbd:validate_oplock_cache_period = 1
"""


@contextlib.contextmanager
def samba_server(folder: Folder, accounts: Accounts) -> Iterator[int]:
    """Its port, until the end of the `with`; SmbdMissing says in words why there is none."""
    smbd, port, own = program(), free_port(), folder.root / "smbd"
    for name in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
        (own / name).mkdir(parents=True, mode=0o755)
    configuration = own / "smb.conf"
    text = CONFIGURATION.format(port=port, folder=own, administrator=accounts.administrator)
    configuration.write_text(text + "\n".join((*GLOBAL_OPTIONS, *folder.sections())) + "\n")
    for name in accounts.names:
        subprocess.run(
            ["smbpasswd", "-c", configuration, "-L", "-s", "-a", name],
            input=f"{PASSWORD}\n{PASSWORD}\n",
            text=True,
            check=True,
            capture_output=True,
        )
    command = (smbd, "--foreground", "--no-process-group", f"--configfile={configuration}")
    with started(command, own / "output", lambda: tcp_answers(LOOPBACK, port)):
        yield port
