"""smbclient logs on with a Kerberos ticket, of a realm that the test runs itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smbserver import own_server
from smbserver.auth.passdb import Passdb
from smbserver.own_server import OwnServer
from tests.interop import kdc as realms
from tests.interop.kdc import HOST, REALM, Kdc

pytestmark = pytest.mark.interop

USER, STRANGER, DISABLED = "alice", "mallory", "carol"
PASSWORD = "pass-Word1"
CIPHERS = ("AES-128-GCM", "AES-256-GCM")


@pytest.fixture(scope="module")
def kdc(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    for name in ("krb5kdc", "kdb5_util", "kadmin.local", "kinit"):
        program(name)
    for library in ("gssapi", "krb5"):
        pytest.importorskip(library, reason=f"python {library} is not installed: .[kerberos]")
    with realms.running(tmp_path_factory.mktemp("kdc"), program) as kdc:
        for name in (USER, STRANGER, DISABLED):
            kdc.add_user(name, PASSWORD)
        kdc.add_service(f"cifs/{HOST}")
        yield kdc


@pytest.fixture(scope="module")
def serving(kdc: Kdc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "share").mkdir()
    made = OwnServer(
        folder=folder,
        path=folder / "share",
        port=own_server.free_port(),
        rdma_port=own_server.free_port(),
        options=(f"dedicated keytab file = {kdc.keytab}", f"realm = {REALM}"),
    )
    made.prepare()
    accounts = Passdb(folder / "smbpasswd")
    for name in (USER, DISABLED):
        accounts.set_password(name, PASSWORD)
    accounts.set_disabled(DISABLED, True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in kdc.environment.items():
            patch.setenv(name, value)
        with own_server.running(made):
            yield made


Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(program: Callable[[str], str], serving: OwnServer, kdc: Kdc) -> Run:
    """What smbclient prints; it has no password, only the tickets of a cache."""
    smbclient = program("smbclient")

    def commands(cache: str, *arguments: str, stdin: str = "") -> str:
        finished = subprocess.run(
            [
                smbclient,
                f"//{HOST}/share",
                *("-I", "127.0.0.1", "-p", str(serving.port), "-s", "/dev/null"),
                *("--use-kerberos=required", "-N", f"--option=realm={REALM}", *arguments),
            ],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **kdc.environment, "KRB5CCNAME": cache},
        )
        return finished.stdout + finished.stderr

    return commands


@pytest.mark.parametrize("dialect", ["SMB2_02", "SMB2_10", "SMB3_00", "SMB3_11"])
def test_a_ticket_is_enough(
    run: Run, kdc: Kdc, serving: OwnServer, tmp_path: Path, dialect: str
) -> None:
    """Signed, so that both ends have derived the same keys."""
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(300_000))
    signed = ("-m", dialect, "--client-protection=sign")
    printed = run(
        kdc.log_on(USER, PASSWORD), *signed, "-c", f"put {source} file; get file {back}; del file"
    )
    assert back.exists(), printed
    assert back.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("cipher", CIPHERS)
def test_sealed_with_keys_of_the_ticket(run: Run, kdc: Kdc, cipher: str) -> None:
    """The long ciphers need the whole key of the session ([MS-SMB2] 3.3.5.5.3)."""
    sealed = ("--client-protection=encrypt", f"--option=client smb3 encryption algorithms={cipher}")
    assert "blocks of size" in run(kdc.log_on(USER, PASSWORD), *sealed, "-c", "ls")


def test_the_session_is_the_principals(run: Run, serving: OwnServer, kdc: Kdc) -> None:
    """smbclient asks the server who it is, by way of its own shell."""
    ask = f"{own_server.PYTHON[0]} -m smbserver status -j -s {serving.configuration}"
    printed = run(kdc.log_on(USER, PASSWORD), stdin=f"!{ask}\n")
    status = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    assert [session["user"] for session in status["sessions"]] == [USER]


@pytest.mark.timeout(60)
def test_the_session_ends_with_the_ticket(run: Run, kdc: Kdc) -> None:
    lifetime = 2
    cache = kdc.log_on(USER, PASSWORD, lifetime)
    wait = lifetime + realms.CLOCK_SKEW + 1
    printed = run(cache, stdin=f"ls\n!sleep {wait}\nmkdir late\n")
    before, _, after = printed.partition("blocks of size")
    assert "NT_STATUS" not in before, printed
    assert "NT_STATUS_NETWORK_SESSION_EXPIRED" in after, printed


def test_who_has_no_account_here_is_refused(run: Run, kdc: Kdc) -> None:
    printed = run(kdc.log_on(STRANGER, PASSWORD), "-c", "ls")
    expected = "NT_STATUS_LOGON_FAILURE" if os.geteuid() == 0 else "blocks of size"
    assert expected in printed


def test_a_disabled_account_is_refused(run: Run, kdc: Kdc) -> None:
    assert "NT_STATUS_ACCOUNT_DISABLED" in run(kdc.log_on(DISABLED, PASSWORD), "-c", "ls")


def test_without_a_ticket_there_is_no_session(run: Run, tmp_path: Path) -> None:
    assert "blocks of size" not in run(f"FILE:{tmp_path}/none", "-c", "ls")


def test_a_ticket_for_other_keys_is_refused(run: Run, kdc: Kdc, serving: OwnServer) -> None:
    """The service has got new keys, and our keytab has not."""
    cache = kdc.log_on(USER, PASSWORD)
    keys = kdc.keytab.read_bytes()
    kdc.keytab.unlink()
    kdc.add_service("cifs/other.example.test")
    try:
        assert "blocks of size" not in run(cache, "-c", "ls")
        assert "Traceback" not in serving.log.read_text()
    finally:
        kdc.keytab.write_bytes(keys)
    assert "blocks of size" in run(kdc.log_on(USER, PASSWORD), "-c", "ls")


def test_passwords_work_beside_tickets(program: Callable[[str], str], serving: OwnServer) -> None:
    finished = subprocess.run(
        [
            program("smbclient"),
            "//127.0.0.1/share",
            *("-p", str(serving.port), "-U", f"{USER}%{PASSWORD}", "-s", "/dev/null", "-c", "ls"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "blocks of size" in finished.stdout, finished.stderr


def test_another_realm_is_refused(kdc: Kdc, serving: OwnServer, run: Run, tmp_path: Path) -> None:
    good = serving.configuration.read_text()
    control = ("-m", "smbserver", "control", "reload", "-s", str(serving.configuration))
    command = [*own_server.PYTHON[:1], *control]
    try:
        serving.configuration.write_text(good.replace(f"realm = {REALM}", "realm = OTHER.TEST"))
        subprocess.run(command, check=True)
        assert "NT_STATUS_LOGON_FAILURE" in run(kdc.log_on(USER, PASSWORD), "-c", "ls")
    finally:
        serving.configuration.write_text(good)
        subprocess.run(command, check=True)
