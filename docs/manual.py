"""Writes the manual pages: `python docs/manual.py FOLDER`, or `make manual`.

What the programs declare is all there is: the pages on configuration come from the parameters, those on commands from
the command lines. roff as man(7) has it.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import rdmaproxy.cli
import rdmaproxy.config
import smbserver.cli
from smbserver.config import DEFAULT_PATH
from smbserver.parameters import (
    INVERSE_SYNONYMS,
    LIMITING,
    WITHOUT_EFFECT,
    General,
    Parameter,
    Share,
    spelled,
)

SIGNALS = (
    ("SIGHUP", "Reads the configuration again. Sessions, open files and transfers go on."),
    ("SIGTERM, SIGINT", "Ends all connections and then the server."),
)
SYNTAX = (
    f"The file, {DEFAULT_PATH} unless another is named, has Samba's syntax: sections in brackets, lines of the form"
    " name = value, comments after # or ; at the start of a line; a backslash at the end continues a line. [global] is"
    " about the server, every other section is a share. What is said of shares in [global] is the default of all.",
    "include = FILE stands for the lines of that file, whose name is relative to the folder of this one; the section"
    " goes on in it, and its last one after it. A file that cannot be read is passed over with a warning.",
    "%S stands for the name of the share, %h for the host's name, %L for the server's, %% for a percent sign.",
)


def pages() -> dict[str, str]:
    """The text of each page by the name of its file."""
    return {
        "smbserver.8": command_page(smbserver.cli.parser(), SIGNALS, ("smbserver.conf(5)",)),
        "smbserver.conf.5": smbserver_conf(),
        "rdmaproxy.8": command_page(rdmaproxy.cli.parser(), (), ("rdmaproxy.conf(5)",)),
        "rdmaproxy.conf.5": rdmaproxy_conf(),
    }


# Configuration


def smbserver_conf() -> str:
    """Every parameter of smb.conf that has an effect."""
    lines = [*_head("smbserver.conf", 5, "configuration of smbserver"), ".SH DESCRIPTION"]
    for sentences in SYNTAX:
        lines += [".PP", _text(sentences)]
    for title, values in (("PARAMETERS OF [global]", General()), ("PARAMETERS OF SHARES", Share())):
        lines.append(f".SH {title}")
        for member in dataclasses.fields(values):
            if "parameter" in member.metadata:
                lines += _smb_parameter(values, member.name, member.metadata["parameter"])
    lines += [".SH ACCEPTED WITHOUT EFFECT", ".PP"]
    lines += [_text("These names of Samba's are known and change nothing:")]
    lines += [".PP", _text(", ".join(sorted(WITHOUT_EFFECT - LIMITING)) + ".")]
    lines += [".PP", _text("These too, with a warning, since they would limit access:")]
    lines += [".PP", _text(", ".join(sorted(LIMITING)) + ".")]
    lines += _see_also("smbserver(8)", "rdmaproxy(8)")
    return "\n".join(lines) + "\n"


def _smb_parameter(values: General | Share, member: str, declared: Parameter) -> Iterator[str]:
    name = member.replace("_", " ")
    yield from (".TP", f".B {_text(name)}")
    yield _text(declared.documentation)
    default = spelled(values, member)
    facts = [f"Value: {declared.kind.allowed}.", f"Default: {default or 'empty'}."]
    if declared.synonyms:
        facts.append(f"Synonyms: {', '.join(declared.synonyms)}.")
    opposite = [one for one, target in INVERSE_SYNONYMS.items() if target == name]
    if opposite:
        facts.append(f"The opposite: {', '.join(opposite)}.")
    if not declared.reloadable:
        facts.append("Counts from the next start.")
    for fact in facts:
        yield from (".br", _text(fact))


def rdmaproxy_conf() -> str:
    """Every parameter of the daemon that owns RDMA."""
    lines = [*_head("rdmaproxy.conf", 5, "configuration of rdmaproxy"), ".SH DESCRIPTION"]
    lines += [_text("One section, [global], with lines of the form name = value.")]
    lines.append(".SH PARAMETERS")
    for name, field in rdmaproxy.config.PARAMETERS.items():
        lines += [".TP", f".B {_text(name.replace('_', ' '))}", _text(field.metadata["meaning"])]
        default = rdmaproxy.config.spelled(field.default)
        lines += [".br", _text(f"Default: {default or 'empty'}.")]
    return "\n".join([*lines, *_see_also("rdmaproxy(8)")]) + "\n"


# Commands


def command_page(
    parser: argparse.ArgumentParser, signals: tuple[tuple[str, str], ...], also: tuple[str, ...]
) -> str:
    """A program with its subcommands and their options, as argparse knows them."""
    (subparsers,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    about = {one.dest: one.help or "" for one in subparsers._choices_actions}
    summary = re.split(r"\.(?:\s|$)", parser.description or "")[0]
    lines = [*_head(parser.prog, 8, summary), ".SH SYNOPSIS"]
    lines += [f".B {_text(parser.prog)}", ".I COMMAND", "[OPTIONS]", ".SH COMMANDS"]
    for name, command in subparsers.choices.items():
        usage = " ".join(command.format_usage().split()).removeprefix("usage: ")
        lines += [f".SS {_text(name)}", _text(_sentence(about.get(name, ""))), ".PP", _text(usage)]
        for action in command._actions:
            if action.help and not isinstance(action, argparse._HelpAction):
                lines += [".TP", f".B {_text(_invocation(action))}", _text(_sentence(action.help))]
    if signals:
        lines.append(".SH SIGNALS")
        for name, meaning in signals:
            lines += [".TP", f".B {name}", _text(meaning)]
    lines += [".SH EXIT STATUS", _text("0: done. 1: failed. 2: wrong usage.")]
    return "\n".join([*lines, *_see_also(*also)]) + "\n"


def _invocation(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return metavar
    return ", ".join(action.option_strings) + (f" {metavar}" if action.nargs != 0 else "")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


# roff


def _head(name: str, section: int, summary: str) -> tuple[str, ...]:
    return (
        f'.TH "{name.upper()}" {section}',
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary)}",
    )


def _see_also(*names: str) -> tuple[str, ...]:
    return (".SH SEE ALSO", _text(", ".join(names)))


def _text(words: str) -> str:
    """As roff prints it: hyphens are those of option names, and no line begins with a request."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/man")
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (folder / name).write_text(page, encoding="utf-8")
        print(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
