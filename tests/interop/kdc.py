"""A Kerberos realm of one's own: MIT's KDC on a free port of 127.0.0.1, all that it has in one folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from smbserver import own_server

REALM = "EXAMPLE.TEST"
HOST = "files.example.test"
"""The server's name in its principal; it is not looked up."""

CLOCK_SKEW = 5
"""Seconds that a ticket is good for after its end, and before its beginning."""

KRB5_CONF = """\
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 0
    clockskew = {skew}
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
"""

KDC_CONF = """\
[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/kadm5.acl
    }}
[logging]
    kdc = FILE:{folder}/kdc.log
"""


@dataclass(frozen=True, slots=True)
class Kdc:
    """A running KDC."""

    folder: Path
    program: Callable[[str], str]

    @property
    def environment(self) -> dict[str, str]:
        """What makes the Kerberos library look here and nowhere else."""
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5RCACHENAME": f"dfl:{self.folder}/rcache",
        }

    @property
    def keytab(self) -> Path:
        """The keys of the service."""
        return self.folder / "keytab"

    def run(self, name: str, *arguments: str, text: str = "") -> str:
        """One of the realm's programs; what it printed."""
        return subprocess.run(
            [self.program(name), *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, **self.environment},
        ).stdout

    def add_user(self, name: str, password: str) -> None:
        self.run("kadmin.local", "-r", REALM, "addprinc", "-pw", password, name)

    def add_service(self, name: str) -> None:
        """With a random key, which goes to the keytab."""
        self.run("kadmin.local", "-r", REALM, "addprinc", "-randkey", name)
        self.run("kadmin.local", "-r", REALM, "ktadd", "-k", str(self.keytab), name)

    def log_on(self, name: str, password: str, lifetime: int = 3600) -> str:
        """A fresh ticket, good for so many seconds; the value of KRB5CCNAME for who is to use it."""
        cache = f"FILE:{self.folder}/tickets-{name}"
        self.run("kinit", "-l", f"{lifetime}s", "-c", cache, name, text=f"{password}\n")
        return cache


@contextlib.contextmanager
def running(folder: Path, program: Callable[[str], str]) -> Iterator[Kdc]:
    """A realm with nobody in it."""
    kdc = Kdc(folder, program)
    words = {"realm": REALM, "port": own_server.free_port(), "folder": folder, "skew": CLOCK_SKEW}
    (folder / "krb5.conf").write_text(KRB5_CONF.format(**words))
    (folder / "kdc.conf").write_text(KDC_CONF.format(**words))
    kdc.run("kdb5_util", "-r", REALM, "create", "-s", "-P", "master password")
    process = subprocess.Popen(
        [program("krb5kdc"), "-n", "-r", REALM],
        env={**os.environ, **kdc.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield kdc
    finally:
        own_server.stop(process)
