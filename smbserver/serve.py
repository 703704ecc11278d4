"""`smbserver serve`: a folder shared in one step, checked against itself before it says that it is ready.

A configuration and an account are made in a private folder, which goes when the server ends; nothing else on
the host is touched.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from smbserver import own_server
from smbserver.own_server import CheckFailed, OwnServer, OwnServerFailed

TCP_PORTS = (445, 4450)
RDMA_PORTS = (5445,)
"""SMB Direct over iWARP ([MS-SMBD] 2.1): clients look there."""


def declare(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Share a folder in one step."""
    parser = subparsers.add_parser(
        "serve", help="share a folder in one step, after a check against itself"
    )
    parser.add_argument("--share", default="share", metavar="FOLDER", help="made if it is missing")
    parser.add_argument("--port", type=int, help="TCP; 445 where allowed, else 4450")
    parser.add_argument("--rdma-port", type=int, help="SMB Direct over iWARP; 5445")
    parser.add_argument("--user", default="user")
    parser.add_argument(
        "--password", help="made up if it is missing; SMB_PASSWORD in the environment is safer"
    )
    parser.add_argument("--once", action="store_true", help="end after the check")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    own_server.unwind_on_sigterm()
    try:
        with tempfile.TemporaryDirectory(prefix="smbserver-") as folder:
            return serve(described(arguments, Path(folder)), arguments.once)
    except (OwnServerFailed, PortTaken, CheckFailed, OSError) as error:
        print(f"smbserver serve: {error}", file=sys.stderr)
        return 1


def described(arguments: argparse.Namespace, folder: Path) -> OwnServer:
    """What the command line asks for, with ports that are free."""
    shared = Path(arguments.share).absolute()
    shared.mkdir(parents=True, exist_ok=True)
    wanted = OwnServer(
        folder=folder,
        path=shared,
        port=choose_port("TCP", arguments.port, TCP_PORTS),
        rdma_port=choose_port("SMB Direct", arguments.rdma_port, RDMA_PORTS),
        user=arguments.user,
        addresses=(),
    )
    password = arguments.password or os.environ.get("SMB_PASSWORD")
    return dataclasses.replace(wanted, password=password) if password else wanted


def serve(served: OwnServer, once: bool) -> int:
    from smbserver import (
        selfcheck,
    )  # it brings the whole client, which `smbserver run` does without

    with own_server.running(served) as process:
        seen = selfcheck.check(served)
        for line in seen.lines():
            print(line, flush=True)
        if not once:
            print(invitation(served), flush=True)
            return wait(process)
        print(json.dumps(seen.to_json()), flush=True)
    return 0


def invitation(served: OwnServer) -> str:
    """How to connect, for people."""
    return (
        f"ready: {served.path} as //{socket.gethostname()}/{served.share},"
        f" TCP port {served.port}, SMB Direct (iWARP) port {served.rdma_port}\n"
        f"user {served.user}, password {served.password}\n"
        f"  smbclient //127.0.0.1/{served.share} -p {served.port}"
        f" -U '{served.user}%{served.password}'\n"
        f"  {sys.executable} -m smbserver status --configfile {served.configuration}\n"
        "Ctrl-C ends it"
    )


def wait(process: subprocess.Popen[bytes]) -> int:
    """Until the server ends, which is a failure, or somebody ends us."""
    with contextlib.suppress(KeyboardInterrupt):
        code = process.wait()
        print(f"smbserver serve: the server ended with {code}", file=sys.stderr)
        return 1
    return 0


class PortTaken(Exception):
    """The port that was asked for cannot be had."""


def choose_port(what: str, asked: int | None, usual: tuple[int, ...]) -> int:
    """The port asked for, or the first of the usual ones that can be had, or any; with a sentence if not the first."""
    if asked is not None:
        reason = why_not(asked)
        if reason:
            raise PortTaken(f"{what} port {asked} was asked for and {reason}; choose another")
        return asked
    reasons = []
    for port in usual:
        reason = why_not(port)
        if reason is None:
            break
        reasons.append(f"{port} {reason}")
    else:
        port = own_server.free_port()
    if reasons:
        print(f"{what}: port {port}, because {', '.join(reasons)}", flush=True)
    return port


def why_not(port: int) -> str | None:
    """Why a port cannot be bound; None: it can."""
    try:
        with socket.create_server(("", port)):
            return None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "is taken by another program"
        if error.errno == errno.EACCES:
            return "needs a privilege that this user has not"
        return f"cannot be bound ({error.strerror})"
