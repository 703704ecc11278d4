"""A server of one's own: configuration, account and processes in one private folder, on ports of its own.

`smbserver serve`, the benchmark and tests start their servers here. Nothing outside the folder is touched, and
what was started is stopped by its pid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from smbserver import config
from smbserver.auth.passdb import Passdb
from smbserver.control import ControlUnavailable, ask

PYTHON = (sys.executable, "-m")
LOOPBACK = "127.0.0.1"
START_TIMEOUT = 60.0
"""Seconds until a server must answer; an emulated machine needs 30. One that ends is noticed at once."""
STOP_TIMEOUT = 10.0
"""Seconds from SIGTERM to SIGKILL."""
POLL_INTERVAL = 0.02
"""Seconds between two looks at whether it has started."""
LOG_SHOWN = 2000
"""Bytes of a failed server's log that are part of the error."""

CONFIGURATION = """\
[global]
    server smb transports = {transports}
    interfaces = {interfaces}
    bind interfaces only = {bind_interfaces_only}
    pid directory = {folder}/run
    state directory = {folder}/state
    passdb backend = smbpasswd:{folder}/smbpasswd
    rdma proxy socket = {folder}/run/rdmaproxy
{options}
[{share}]
    path = {path}
    read only = no
"""


class OwnServerFailed(Exception):
    """The server did not start, or ended; the sentence and its log say why."""


class CheckFailed(Exception):
    """The server does not do what it is there for; the sentence says what was seen instead."""


@dataclasses.dataclass(frozen=True, slots=True)
class OwnServer:
    """What a server is to serve, and where."""

    folder: Path
    """Private; everything of this server lies in it."""
    path: Path
    """What is shared."""
    port: int
    rdma_port: int
    user: str = "user"
    password: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(9))
    share: str = "share"
    addresses: tuple[str, ...] = (LOOPBACK,)
    """Where to listen; empty: everywhere."""
    rdma_transport: str = "smbdirect-iw"
    """By user-space iWARP; "smbdirect": by the RDMA adapter behind the addresses."""
    options: tuple[str, ...] = ()
    """More lines for [global]; sections of further shares may follow them."""

    @property
    def configuration(self) -> Path:
        return self.folder / "smb.conf"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def proxy_path(self) -> str:
        """The control socket of its rdmaproxy."""
        return str(self.folder / "run" / "rdmaproxy")

    def status(self) -> dict[str, Any]:
        """What the server tells of itself; empty while it does not answer."""
        try:
            return ask(config.load(self.configuration).control_path, "status")
        except ControlUnavailable:
            return {}

    def prepare(self) -> None:
        """Writes configuration and account."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("run", "state"):
            (self.folder / name).mkdir(exist_ok=True, mode=0o700)
        self.configuration.write_text(
            CONFIGURATION.format(
                transports=f"tcp:{self.port}, {self.rdma_transport}:{self.rdma_port}",
                interfaces=" ".join(self.addresses),
                bind_interfaces_only="yes" if self.addresses else "no",
                folder=self.folder,
                options="".join(f"    {line}\n" for line in self.options),
                share=self.share,
                path=self.path,
            )
        )
        Passdb(self.folder / "smbpasswd").set_password(self.user, self.password)


@contextlib.contextmanager
def running(server: OwnServer) -> Iterator[subprocess.Popen[bytes]]:
    """The server with its proxy and workers, listening on TCP and RDMA; stopped at the end."""
    server.prepare()
    command = (*PYTHON, "smbserver", "run", "--configfile", str(server.configuration))
    with started(command, server.log, lambda: bool(server.status().get("rdma"))) as process:
        yield process


@dataclasses.dataclass(frozen=True, slots=True)
class RunningProxy:
    """An rdmaproxy of one's own."""

    control: str
    """Path of its control socket."""
    pid: int


@contextlib.contextmanager
def running_proxy(
    folder: Path, *parameters: str, under: tuple[str, ...] = ()
) -> Iterator[RunningProxy]:
    """A proxy whose socket and log lie in `folder`, with parameters NAME=VALUE, `under` a command that limits it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = str(folder / "control")
    options = [word for one in parameters for word in ("--option", one)]
    command = (*under, *PYTHON, "rdmaproxy", "run", "--socket", path, *options)
    with started(command, folder / "log", lambda: control_answers(path)) as process:
        yield RunningProxy(path, process.pid)


@contextlib.contextmanager
def started(
    command: tuple[str, ...], log: Path, answers: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours, from its first answer on; stopped at the end.

    It has a session of its own, so that Ctrl-C reaches us alone, and no input to wait for.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not answers():
            if process.poll() is not None:
                raise OwnServerFailed(f"{command} ended with {process.returncode}: {_tail(log)}")
            if time.monotonic() > deadline:
                raise OwnServerFailed(f"{command} does not answer: {_tail(log)}")
            time.sleep(POLL_INTERVAL)
        yield process
    finally:
        stop(process)


def unwind_on_sigterm() -> None:
    """SIGTERM ends this process as Ctrl-C does, so that what it has started is stopped with it."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL if that is not enough."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tcp_answers(address: str, port: int) -> bool:
    """Whether somebody accepts TCP connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((address, port)) == 0


def control_answers(path: str) -> bool:
    """Whether a proxy accepts control connections there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        return probe.connect_ex(path) == 0


def free_port(address: str = LOOPBACK) -> int:
    with socket.create_server((address, 0)) as listener:
        return int(listener.getsockname()[1])


def _tail(log: Path) -> str:
    text = log.read_bytes()[-LOG_SHOWN:].decode(errors="replace").strip()
    return text or f"{log} is empty"
