"""The benchmark: every figure is a median of one run, and a ratio to what else was measured in that run."""

from __future__ import annotations

import argparse


def declare(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Measure."""
    parser = subparsers.add_parser("bench", help="measure against a raw stream and Samba's smbd")
    parser.add_argument("-j", "--json", action="store_true", help="a list of objects")
    parser.add_argument("--quick", action="store_true", help="move an eighth: for a first look")
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="at least 5 say something"
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from smbserver.bench import command  # it brings the client and the C stream

    return command.run(arguments)
