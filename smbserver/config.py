"""smb.conf: its syntax, and the frozen `Config` that everything else reads.

Sections in brackets, `name = value`, comments after # or ; at the start of a line, a backslash at the end of a line
continues it. Names are compared without regard to case and to the number of blanks. `include = FILE` puts the lines of
another file in its place.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smbserver.parameters import (
    GENERAL,
    INVERSE_SYNONYMS,
    LIMITING,
    SHARE,
    WITHOUT_EFFECT,
    General,
    Share,
    server_name,
)
from smbserver.values import BadValue

DEFAULT_PATH = "/etc/smbserver/smb.conf"
GLOBAL_SECTIONS = ("global", "globals")
MAX_INCLUDES = 10
"""Files that may include each other in a row: more, and one includes itself."""


class ConfigError(ValueError):
    """The configuration cannot be used; the sentence names file, line and remedy."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the configuration file says."""

    general: General = field(default_factory=General)
    shares: Mapping[str, Share] = field(default_factory=dict)
    """By name in lower case."""
    path: str = ""
    """The file it came from."""
    share_defaults: Share = field(default_factory=Share)
    """What [global] says of all shares."""
    warnings: tuple[str, ...] = ()
    """What was passed over, though whoever wrote it meant something; a sentence each."""
    without_effect: tuple[str, ...] = ()
    """Names of Samba's that are accepted and change nothing."""

    def share(self, name: str) -> Share | None:
        """The share of that name, whatever its case."""
        return self.shares.get(name.lower())

    @property
    def state_directory(self) -> Path:
        """Where accounts and state are kept."""
        if self.general.state_directory:
            return Path(self.general.state_directory)
        if os.geteuid() == 0:
            return Path("/var/lib/smbserver")
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "smbserver"

    @property
    def run_directory(self) -> Path:
        """Where the control socket is."""
        if self.general.pid_directory:
            return Path(self.general.pid_directory)
        if os.geteuid() == 0:
            return Path("/run/smbserver")
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        return Path(runtime) / "smbserver" if runtime else Path(f"/tmp/smbserver-{os.geteuid()}")

    @property
    def control_path(self) -> Path:
        """The listener's control socket."""
        return self.run_directory / "control"

    @property
    def store_directory(self) -> Path:
        """What the workers share while they run."""
        return self.run_directory / "workers"

    @property
    def accounts_path(self) -> Path:
        """The smbpasswd(5) file."""
        backend, _, file = self.general.passdb_backend.partition(":")
        if backend != "smbpasswd":
            raise ConfigError(
                f"passdb backend = {self.general.passdb_backend}: only smbpasswd:FILE is known here"
            )
        return Path(file) if file else self.state_directory / "smbpasswd"


def load(path: str | os.PathLike[str] | None = None, options: Iterable[str] = ()) -> Config:
    """Read a file (the usual one if it exists) and then `name = value` options for [global]."""
    name = os.fspath(path) if path is not None else DEFAULT_PATH
    lines: list[str] = []
    if path is not None or os.path.exists(name):
        try:
            lines = _read(name)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name} cannot be read: {error}") from error
    return parse(lines, name, options)


def _read(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def parse(lines: Iterable[str], path: str = "smb.conf", options: Iterable[str] = ()) -> Config:
    """Make a `Config` of lines in the syntax of smb.conf."""
    sections: dict[str, dict[str, str]] = {"global": {}}
    spellings: dict[str, str] = {}
    review = _Review()
    for where, section, name, value in _settings(lines, path, review):
        key = "global" if section.lower() in GLOBAL_SECTIONS else section.lower()
        spellings.setdefault(key, section)
        settings = sections.setdefault(key, {})
        if name:
            review.look_at(where, key, name)
            settings[name] = value
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"--option {option}: NAME=VALUE is expected")
        review.look_at("--option", "global", _canonical(name))
        sections["global"][_canonical(name)] = value.strip()
    general = General(**_values(General, sections["global"], path))
    defaults = {key: value for key, value in sections.pop("global").items() if key in SHARE_NAMES}
    defaults.pop("server smb encrypt", None)
    shares = {}
    for key, settings in sections.items():
        fields = _values(Share, _substitute(defaults | settings, spellings[key]), path)
        shares[key] = Share(name=spellings[key], **fields)
        if not shares[key].path and key != "ipc$":
            raise ConfigError(
                f"{path}: [{spellings[key]}] has no `path`: name the folder that it shares"
            )
    return Config(
        general,
        shares,
        path,
        Share(**_values(Share, defaults, path)),
        tuple(review.warnings),
        tuple(review.without_effect),
    )


SHARE_NAMES = frozenset(SHARE) | frozenset(INVERSE_SYNONYMS)
"""What may stand in the section of a share, and in [global] for all of them."""


class _Review:
    """What is to be said of the names in a file."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.without_effect: dict[str, None] = {}

    def look_at(self, where: str, section: str, name: str) -> None:
        known = SHARE_NAMES if section != "global" else SHARE_NAMES | frozenset(GENERAL)
        if name in known:
            return
        if name in LIMITING:
            self.warnings.append(f"{where}: `{name}` would limit access and has no effect here")
        elif name in WITHOUT_EFFECT or ":" in name:
            self.without_effect[name] = None
        elif name in GENERAL:
            self.warnings.append(f"{where}: `{name}` has an effect in [global] only")
        else:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean `{nearest[0]}`?" if nearest else ""
            self.warnings.append(f"{where}: unknown parameter `{name}` is ignored{hint}")


def _settings(
    lines: Iterable[str], path: str, review: _Review, section: str = "global", depth: int = 0
) -> Generator[tuple[str, str, str, str], None, str]:
    """Where it stands, section, canonical name and value of each setting; and each section by itself.

    What it returns is the section at the end, in which the file goes on that includes this one.
    """
    for number, line in _joined(lines):
        where = f"{path}:{number}"
        if line.startswith("["):
            if not line.endswith("]") or not line[1:-1].strip():
                raise ConfigError(f"{where}: {line!r} is no section: write [name]")
            section = line[1:-1].strip()
            yield where, section, "", ""
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise ConfigError(f"{where}: {line!r} is no setting: write name = value")
        if _canonical(name) != "include":
            yield where, section, _canonical(name), _unquoted(value.strip())
            continue
        included = os.path.join(
            os.path.dirname(path), _filled_in(_unquoted(value.strip()), section)
        )
        if depth == MAX_INCLUDES:
            raise ConfigError(
                f"{where}: {included} would be file {depth} in file: does it include itself?"
            )
        section = yield from _settings(
            _included(included, where, review), included, review, section, depth + 1
        )
    return section


def _included(path: str, where: str, review: _Review) -> list[str]:
    """The lines of a file, none if it cannot be had: as with Samba, the others count all the same."""
    if "%" in path:
        review.warnings.append(f"{where}: {path} depends on who connects, and is not included")
        return []
    try:
        return _read(path)
    except (OSError, UnicodeDecodeError) as error:
        review.warnings.append(f"{where}: {path} is not included: {error}")
        return []


def _unquoted(value: str) -> str:
    """Without the quotes, if one pair of them holds the whole value."""
    whole = value.count('"') == 2 and value.startswith('"') and value.endswith('"')
    return value.strip('"') if whole else value


def _joined(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines without comments and blanks, continued ones joined, with the number of the first."""
    begun, first = "", 0
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not begun:
            first = number
            if not stripped or stripped[0] in "#;":
                continue
        if stripped.endswith("\\"):
            begun += stripped[:-1].rstrip() + " "
            continue
        yield first, (begun + stripped).strip()
        begun = ""
    if begun.strip():
        yield first, begun.strip()


def _canonical(name: str) -> str:
    return " ".join(name.lower().split())


def _values(
    scope: type[General] | type[Share], settings: Mapping[str, str], path: str
) -> dict[str, Any]:
    """Field values of a dataclass of parameters."""
    declared = GENERAL if scope is General else SHARE
    values: dict[str, Any] = {}
    for name, value in settings.items():
        target = INVERSE_SYNONYMS.get(name, name)
        if target not in declared:
            continue
        member, declaration = declared[target]
        try:
            values[member] = declaration.kind.parse(value)
        except BadValue as error:
            raise ConfigError(f"{path}: {name} = {value}: {error}") from error
        if name in INVERSE_SYNONYMS:
            values[member] = not values[member]
    return values


def _substitute(settings: dict[str, str], share: str) -> dict[str, str]:
    return {name: _filled_in(value, share) for name, value in settings.items()}


def _filled_in(value: str, share: str) -> str:
    """With the % variables that have a value before anybody connects."""
    variables = {"%S": share, "%L": server_name(General()), "%h": socket.gethostname(), "%%": "%"}
    return "".join(variables.get(part, part) for part in re.split("(%.)", value))
