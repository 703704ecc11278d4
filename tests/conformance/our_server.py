"""smbserver with the shares of the suites."""

from __future__ import annotations

import contextlib
import pwd
import re
from collections import Counter
from collections.abc import Iterator

from smbserver import own_server
from smbserver.auth.passdb import Passdb
from smbserver.own_server import OwnServer
from tests.conformance.accounts import PASSWORD, Accounts
from tests.conformance.shares import GLOBAL_OPTIONS, Folder

_ENDED = re.compile(r" ERROR .* (ended with |ended: |was dropped: )")
_RAISED = re.compile(r"[\w.]*(Error|Exception)\b")
"""The last line of a traceback."""


@contextlib.contextmanager
def our_server(
    folder: Folder, accounts: Accounts, options: tuple[str, ...] = ()
) -> Iterator[OwnServer]:
    """Runs until the end of the `with`; `options` go to [global]."""
    made = OwnServer(
        folder=folder.root / "smbserver",
        path=folder.share,
        port=own_server.free_port(),
        rdma_port=own_server.free_port(),
        user=accounts.user,
        password=PASSWORD,
        options=(*GLOBAL_OPTIONS, *options, *folder.sections()),
    )
    made.folder.mkdir(mode=0o700)
    passdb = Passdb(made.folder / "smbpasswd")
    for name in accounts.names:
        passdb.set_password(name, PASSWORD, pwd.getpwnam(name).pw_uid)
    with own_server.running(made):
        yield made


class Faults:
    """What the server's log says that must not happen: failures within, and who ended by them."""

    def __init__(self, server: OwnServer) -> None:
        self._log = server.log
        self._seen = 0

    def new(self) -> Counter[str]:
        """What was said since the last call, without time and process, and how often; a traceback by its last line."""
        with self._log.open("rb") as log:
            log.seek(self._seen)
            text = log.read()
        self._seen += len(text)
        lines = text.decode(errors="replace").splitlines()
        return Counter(
            line.partition(" ERROR ")[2] or line
            for line in lines
            if _ENDED.search(line) or _RAISED.match(line)
        )
