"""`smbserver testparm`: what a configuration means, and what in it means nothing.

The effective values go to standard output, in the syntax of smb.conf; remarks go to standard error. Exit codes: 0 the
configuration can be used, 1 it cannot or what was asked for is not in it, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from smbserver import hosts
from smbserver.config import DEFAULT_PATH, GLOBAL_SECTIONS, Config, ConfigError, load
from smbserver.parameters import GENERAL, INVERSE_SYNONYMS, SHARE, General, Share, spelled


def declare(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Check a configuration."""
    parser = subparsers.add_parser("testparm", help="check a configuration, show what it means")
    parser.add_argument("file", nargs="?", help=f"the smb.conf to read; {DEFAULT_PATH}")
    parser.add_argument("host", nargs="?", help="name of a client; it is only repeated")
    parser.add_argument("address", nargs="?", help="of this client: which shares may it enter?")
    parser.add_argument("--configfile", metavar="FILE", help="the same")
    parser.add_argument("--option", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument(
        "-s", "--suppress-prompt", action="store_true", help="as in Samba; there is no prompt here"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="also what is at its default")
    parser.add_argument("--section-name", metavar="NAME", help="this section only")
    parser.add_argument("--parameter-name", metavar="NAME", help="the value of this one only")
    parser.set_defaults(command=run)


def run(parsed: argparse.Namespace) -> int:
    """Read, and show."""
    config = load(parsed.configfile or parsed.file, parsed.option)
    for sentence in (*config.warnings, *_beyond_the_file(config)):
        print(f"warning: {sentence}", file=sys.stderr)
    if config.without_effect:
        print(f"accepted without effect: {', '.join(config.without_effect)}", file=sys.stderr)
    if parsed.parameter_name is not None:
        print(value_of(config, parsed.section_name or "global", parsed.parameter_name))
        return 0
    if parsed.host is not None:
        print("\n".join(admitted(config, parsed.host, parsed.address or parsed.host)))
        return 0
    print("\n".join(effective(config, parsed.section_name, parsed.verbose)))
    return 0


def admitted(config: Config, host: str, address: str) -> Iterator[str]:
    """A line for each share: whether `hosts allow` and `hosts deny` let a client in."""
    try:
        ip_address(address)
    except ValueError:
        raise ConfigError(f"{address} is no address: names of hosts are not looked up") from None
    for values in (config.share_defaults, *config.shares.values()):
        may = hosts.permits(values.hosts_allow, values.hosts_deny, address)
        words = "Allow" if may else "Deny"
        yield f"{words} connection from {host} ({address}) to {values.name or 'the server'}"


def effective(config: Config, section: str | None = None, verbose: bool = False) -> Iterator[str]:
    """The lines of a configuration that means the same; without `verbose` only what differs from the defaults."""
    if section is None or section.lower() in GLOBAL_SECTIONS:
        yield "[global]"
        yield from _settings(config.general, General(), verbose)
        yield from _settings(config.share_defaults, Share(), verbose)
    for share in [_share(config, section)] if section is not None else config.shares.values():
        if share is not None:
            yield from () if section else ("",)
            yield f"[{share.name}]"
            yield from _settings(share, Share() if verbose else config.share_defaults, verbose)


def value_of(config: Config, section: str, name: str) -> str:
    """The value of one parameter, whatever name it goes by. Raises ConfigError."""
    canonical = " ".join(name.lower().split())
    target = INVERSE_SYNONYMS.get(canonical, canonical)
    share = _share(config, section)
    if share is None and target in GENERAL:
        return spelled(config.general, GENERAL[target][0])
    if target not in SHARE:
        raise ConfigError(f"there is no parameter `{name}` in [{section}]")
    values = share or config.share_defaults
    member, _ = SHARE[target]
    if target == canonical:
        return spelled(values, member)
    return "no" if getattr(values, member) else "yes"


def _share(config: Config, section: str) -> Share | None:
    if section.lower() in GLOBAL_SECTIONS:
        return None
    share = config.share(section)
    if share is None:
        raise ConfigError(f"{config.path} has no section [{section}]")
    return share


def _settings(values: General | Share, defaults: General | Share, verbose: bool) -> Iterator[str]:
    declared = GENERAL if isinstance(values, General) else SHARE
    for member in dict.fromkeys(member for member, _ in declared.values()):
        if verbose or getattr(values, member) != getattr(defaults, member):
            yield f"\t{member.replace('_', ' ')} = {spelled(values, member)}".rstrip()


def _beyond_the_file(config: Config) -> Iterator[str]:
    """What does not fit the host."""
    for share in config.shares.values():
        if share.path and not os.path.isdir(share.path):
            yield f"[{share.name}]: path = {share.path} is not a folder that can be reached"
        if share.force_user and not _is_known(pwd.getpwnam, share.force_user):
            yield f"[{share.name}]: force user = {share.force_user}: the system knows no such user"
        if share.force_group and not _is_known(grp.getgrnam, share.force_group.lstrip("+")):
            yield f"[{share.name}]: force group = {share.force_group}: the system knows no such group"
        for member in (*share.hosts_allow, *share.hosts_deny):
            if not hosts.is_understood(member):
                yield f"[{share.name}]: {member} matches nobody: names of hosts are not looked up"


def _is_known(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
