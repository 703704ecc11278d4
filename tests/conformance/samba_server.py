"""Samba's smbd with the same shares: the yardstick, live."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from smbserver.own_smbd import running_smbd
from tests.conformance.accounts import PASSWORD, Accounts
from tests.conformance.shares import GLOBAL_OPTIONS, Folder

OPTIONS = (
    "unix extensions = no",
    "kernel oplocks = no",
    "kernel share modes = no",
    "posix locking = no",
    "store dos attributes = yes",
    "map archive = no",
    "ea support = yes",
    "dos filemode = yes",
    "strict rename = yes",
    "strict sync = yes",
    "vfs objects = streams_xattr acl_xattr",
    # Controls that only smbtorture sends.
    "smbd:FSCTL_SMBTORTURE = yes",
    "smbd:validate_oplock_cache_period = 1",
)


@contextlib.contextmanager
def samba_server(
    folder: Folder, accounts: Accounts, options: tuple[str, ...] = ()
) -> Iterator[int]:
    """Its port, until the end of the `with`; SmbdMissing says in words why there is none."""
    administrator = f"admin users = {accounts.administrator}"
    lines = (*OPTIONS, administrator, *GLOBAL_OPTIONS, *options, *folder.sections())
    passwords = dict.fromkeys(accounts.names, PASSWORD)
    with running_smbd(folder.root / "smbd", passwords, lines) as smbd:
        yield smbd.port
