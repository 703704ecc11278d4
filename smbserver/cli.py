"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from smbserver import bench, log, serve, status, testparm
from smbserver.auth.passdb import Passdb, PassdbError
from smbserver.config import Config, ConfigError, load
from smbserver.control import ControlUnavailable, ask
from smbserver.daemon import Daemon

EXIT_FAILED = 1


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
    except (ConfigError, ControlUnavailable, PassdbError, OSError) as error:
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
    """Show sessions and channels."""
    parser = subparsers.add_parser("status", help="sessions, channels, what moves by RDMA")
    _add_common(parser)
    parser.add_argument("-j", "--json", action="store_true", help="as one JSON object")
    parser.set_defaults(command=show_status)


def show_status(parsed: argparse.Namespace) -> int:
    """Ask the running server."""
    answer = ask(_config(parsed).control_path, "status")
    print(json.dumps(answer, indent=2) if parsed.json else status.table(answer))
    return 0


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
        if not parsed.add and passdb.find(parsed.user) is None:
            raise PassdbError(f"{passdb.path} has no account {parsed.user!r}; add it with -a")
        passdb.set_password(parsed.user, _read_password())
    return 0


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
    declare_passwd,
    testparm.declare,
    serve.declare,
    bench.declare,
)
"""One function per subcommand; it declares its arguments and sets `command`."""
