"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import pwd
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from smbserver import bench, log, serve, status_table, testparm
from smbserver.auth.passdb import Passdb, PassdbError
from smbserver.config import Config, ConfigError, load
from smbserver.control import ControlUnavailable, Refused, ask
from smbserver.daemon import Daemon

EXIT_FAILED = 1

MEASURED = 1.0
"""Seconds between the two looks of `status --rates`."""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(prog="smbserver", description="An SMB 3 server with RDMA.")
    subparsers = whole.add_subparsers(required=True, metavar="COMMAND")
    for declare in COMMANDS:
        declare(subparsers)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand."""
    parsed = parser().parse_args(arguments)
    try:
        return int(parsed.command(parsed))
    except (ConfigError, ControlUnavailable, Refused, PassdbError, OSError) as error:
        print(f"smbserver: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED


# smbserver run


def declare_run(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Serve, in the foreground."""
    parser = subparsers.add_parser("run", help="serve, in the foreground")
    _add_common(parser)
    parser.set_defaults(command=run)


def run(parsed: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    if parsed.debuglevel is not None:
        parsed.option.append(f"log level={parsed.debuglevel}")
    config = _config(parsed)
    log.start(config.general.log_level)
    options: list[str] = []
    if parsed.configfile:
        options += ["--configfile", str(Path(parsed.configfile).absolute())]
    for option in parsed.option:
        options += ["--option", option]

    async def until_stopped() -> None:
        await Daemon(config, options, lambda: _config(parsed)).run()

    asyncio.run(until_stopped())
    return 0


# smbserver status


def declare_status(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Show sessions and channels, open files, locks."""
    parser = subparsers.add_parser("status", help="sessions, channels, open files, locks")
    _add_common(parser)
    parser.add_argument("-j", "--json", action="store_true", help="all of it, as one JSON object")
    parser.add_argument(
        "-R", "--rates", action="store_true", help="bytes per second, measured for one second"
    )
    parser.add_argument(
        "what",
        nargs="?",
        default="sessions",
        choices=("sessions", "opens", "locks"),
        help="which table; sessions with their channels, unless another is named",
    )
    parser.set_defaults(command=show_status)


def show_status(parsed: argparse.Namespace) -> int:
    """Ask the running server."""
    path = _config(parsed).control_path
    answer = ask(path, "status", files=parsed.json or parsed.what != "sessions")
    if parsed.rates:
        time.sleep(MEASURED)
        before, answer = answer, ask(path, "status", files=parsed.json)
        status_table.add_rates(before, answer, MEASURED)
    table = {
        "sessions": status_table.sessions,
        "opens": status_table.opens,
        "locks": status_table.locks,
    }[parsed.what]
    print(json.dumps(answer, indent=2) if parsed.json else table(answer))
    return 0


# smbserver control


def declare_control(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Tell the running server what to do."""
    parser = subparsers.add_parser("control", help="close sessions and files, reload, log more")
    operations = parser.add_subparsers(required=True, metavar="OPERATION", dest="operation")
    close_session = operations.add_parser("close-session", help="end a session on all its channels")
    close_file = operations.add_parser("close-file", help="close one open file")
    for one in (close_session, close_file):
        one.add_argument("session", type=_number, help="as `smbserver status` shows it")
    close_file.add_argument("file", type=_number, help="as `smbserver status opens` shows it")
    reload = operations.add_parser("reload", help="read the configuration again, as SIGHUP does")
    debug = operations.add_parser("debug", help="log that much until the next reload")
    debug.add_argument("level", help="debug, info, warning, error, or a number as in Samba")
    for one in (close_session, close_file, reload, debug):
        _add_common(one)
    parser.set_defaults(command=control)


def control(parsed: argparse.Namespace) -> int:
    """Ask, and show what the server answers."""
    names = ("session", "file", "level")
    arguments = {name: getattr(parsed, name) for name in names if hasattr(parsed, name)}
    answer = ask(_config(parsed).control_path, parsed.operation, **arguments)
    for sentence in answer.get("warnings", ()):
        print(f"warning: {sentence}", file=sys.stderr)
    return 0


def _number(value: str) -> int:
    return int(value, 0)


# smbserver passwd


def declare_passwd(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Change the account file."""
    parser = subparsers.add_parser("passwd", help="add, change and remove accounts")
    _add_common(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-a", "--add", action="store_true", help="add the account")
    what.add_argument("-x", "--delete", action="store_true", help="remove the account")
    what.add_argument("-d", "--disable", action="store_true", help="switch the account off")
    what.add_argument("-e", "--enable", action="store_true", help="switch the account on")
    parser.add_argument(
        "--uid", type=int, help="a new account's Unix user; that of the same name, if it is missing"
    )
    parser.add_argument("user", metavar="USER", help="name of the account")
    parser.set_defaults(command=passwd)


def passwd(parsed: argparse.Namespace) -> int:
    """Change one account; a password comes from the terminal, or from the first line of the input."""
    passdb = Passdb(_config(parsed).accounts_path)
    if parsed.delete:
        passdb.remove(parsed.user)
    elif parsed.disable or parsed.enable:
        passdb.set_disabled(parsed.user, parsed.disable)
    else:
        known = passdb.find(parsed.user)
        if known is None and not parsed.add:
            raise PassdbError(f"{passdb.path} has no account {parsed.user!r}; add it with -a")
        uid = parsed.uid
        if known is None and uid is None:
            uid = _uid_of(parsed.user)
        passdb.set_password(parsed.user, _read_password(), uid)
    return 0


def _uid_of(user: str) -> int:
    """As whom a new account acts. Root's server can act as anybody, and must not do so as root by mistake."""
    if os.geteuid() != 0:
        return os.geteuid()
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise PassdbError(
            f"the system knows no user {user!r}: add it, or name with --uid as whom the account acts"
        ) from None


def _read_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("New password: ")
    if getpass.getpass("Again: ") != password:
        raise PassdbError("the two passwords differ; nothing was changed")
    return password


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-s", "--configfile", metavar="FILE", help="the smb.conf to read")
    parser.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set a parameter of [global]; may be given several times",
    )
    parser.add_argument("--debuglevel", metavar="LEVEL", help="debug, info, warning or error")


def _config(parsed: argparse.Namespace) -> Config:
    return load(parsed.configfile, parsed.option)


COMMANDS = (
    declare_run,
    declare_status,
    declare_control,
    declare_passwd,
    testparm.declare,
    serve.declare,
    bench.declare,
)
"""One function per subcommand; it declares its arguments and sets `command`."""
