"""What an administrator may set: an ini file with one section, [global], in the syntax of smb.conf.

Each parameter is declared once, with its type, default, bounds and meaning; spaces, underscores, hyphens and the
letters' case in names do not matter.
"""

from __future__ import annotations

import configparser
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

SECTION = "global"
SUFFIXES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
TRUE = frozenset({"yes", "true", "on", "1"})
FABRICS = ("auto", "verbs", "iwarp")
FALSE = frozenset({"no", "false", "off", "0"})


class ConfigError(Exception):
    """A parameter is unknown or its value impossible."""


def _text(value: str) -> str:
    return value


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.replace(",", " ").split())


def _truth(value: str) -> bool:
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise ValueError("is neither yes nor no")


def _number(value: str) -> int:
    """A number, with K, M, G or T behind it where it counts bytes."""
    suffix = SUFFIXES.get(value[-1:].lower())
    try:
        return int(value[:-1].strip()) * suffix if suffix else int(value)
    except ValueError:
        raise ValueError("is not a number") from None


def _seconds(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError("is not a number of seconds") from None


def _fabric(value: str) -> str:
    if value.lower() not in FABRICS:
        raise ValueError(f"is none of {', '.join(FABRICS)}")
    return value.lower()


def _endpoint(value: str) -> tuple[str, int] | None:
    if not value:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError("is not of the form ADDRESS:PORT")
    return host.strip("[]"), int(port)


def _parameter(
    default: Any,
    parse: Callable[[str], Any],
    meaning: str,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    about = {"parse": parse, "meaning": meaning, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True, slots=True)
class Config:
    """All parameters. Where zero is allowed for a size or a time it means the engine's default."""

    control_socket: str = _parameter(
        "", _text, "Path of the control socket; empty: the usual place of this user."
    )
    allow_users: tuple[str, ...] = _parameter(
        (), _words, "Users, by name or number, that may use the control socket besides our own."
    )
    allow_groups: tuple[str, ...] = _parameter(
        (), _words, "Groups, by name or number, whose members may use the control socket."
    )
    control_clients: int = _parameter(
        256, _number, "Control connections at a time; more are refused.", 1, 65536
    )
    drain_deadline: float = _parameter(
        10.0, _seconds, "Seconds that connections have to end in good order at SIGTERM.", 0, 3600
    )
    log_level: int = _parameter(
        1,
        _number,
        "0: refusals and failures, 1: life of connections, 3 and up: for developers.",
        0,
        10,
    )
    metrics_endpoint: tuple[str, int] | None = _parameter(
        None, _endpoint, "ADDRESS:PORT where Prometheus finds the metrics; empty: nowhere."
    )
    memory_limit: int = _parameter(
        16 << 30, _number, "Bytes of all workers' pools together; 0: no limit.", 0, 1 << 60
    )
    max_connections: int = _parameter(
        16384, _number, "Connections at a time; more are refused.", 1, 1 << 20
    )
    receive_credit_max: int = _parameter(
        0, _number, "Receives posted per connection ([MS-SMBD] 3.1.1.1).", 0, 65535
    )
    send_credit_target: int = _parameter(
        0,
        _number,
        "Credits asked of the peer ([MS-SMBD] 3.1.1.1); 0: 200. With 255 the client of Linux 6.1 hangs now and then "
        "when it unmounts.",
        0,
        65535,
    )
    max_send_size: int = _parameter(0, _number, "Bytes of one segment sent.", 0, 1 << 20)
    max_receive_size: int = _parameter(0, _number, "Bytes of one posted receive.", 0, 1 << 20)
    max_fragmented_size: int = _parameter(
        0, _number, "Bytes of one reassembled message, at least 131072.", 0, 0xFFFFFF
    )
    max_read_write_size: int = _parameter(0, _number, "Bytes of one RDMA transfer.", 0, 1 << 30)
    read_depth: int = _parameter(
        0, _number, "RDMA Reads under way per connection and direction.", 0, 255
    )
    negotiate_timeout: float = _parameter(
        0.0, _seconds, "Seconds for the negotiation: of MPA, and then of SMB Direct.", 0, 3600
    )
    idle_timeout: float = _parameter(
        0.0, _seconds, "Seconds of silence after which a peer counts as dead.", 0, 86400
    )
    keepalive_interval: float = _parameter(
        0.0, _seconds, "Client role: seconds of silence after which the peer is asked.", 0, 86400
    )
    keepalive_timeout: float = _parameter(
        0.0, _seconds, "Client role: seconds that the peer has to answer.", 0, 86400
    )
    send_timeout: float = _parameter(
        0.0, _seconds, "Seconds that messages may wait for credits.", 0, 86400
    )
    fabric: str = _parameter(
        "auto",
        _fabric,
        "verbs: RDMA adapters, iwarp: user-space iWARP over TCP, auto: adapters and iwarp side by side.",
    )
    iwarp_crc: bool = _parameter(
        False, _truth, "Ask iWARP peers for CRC32C (RFC 5044 section 7.1)."
    )
    iwarp_max_ulpdu: int = _parameter(
        0, _number, "Bytes of the longest iWARP FPDU's payload.", 0, 65535
    )
    verbs_send_queue: int = _parameter(
        0, _number, "Use RDMA adapters as if a send queue had no more; 0: what they give.", 0, 65535
    )
    verbs_receive_queue: int = _parameter(
        0, _number, "As if a receive queue had no more; 0: what they give.", 0, 65535
    )
    verbs_sges: int = _parameter(
        0, _number, "As if a work request had no more pieces; 0: what they give.", 0, 16
    )
    verbs_read_depth: int = _parameter(
        0, _number, "As if no more RDMA Reads could be under way; 0: what they give.", 0, 255
    )
    verbs_windows: bool = _parameter(
        True, _truth, "Use memory windows of type 2 where adapters have them."
    )


PARAMETERS = {field.name: field for field in dataclasses.fields(Config)}


def load(path: str | None, options: Iterable[str] = ()) -> Config:
    """The file's values, then each NAME=VALUE of `options` over them."""
    given = dict(_read_file(path)) if path else {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"--option {option!r} is not of the form NAME=VALUE")
        given[_canonical(name)] = value
    return Config(**{name: _value(name, value) for name, value in given.items()})


def _canonical(name: str) -> str:
    return "_".join(name.lower().replace("_", " ").replace("-", " ").split())


def _read_file(path: str) -> Iterable[tuple[str, str]]:
    parser = configparser.ConfigParser(
        interpolation=None, comment_prefixes=("#", ";"), delimiters=("=",), default_section=""
    )
    parser.optionxform = _canonical  # type: ignore[method-assign, assignment]
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    for section in parser.sections():
        if section.lower() != SECTION:
            raise ConfigError(f"{path}: there is no section [{section}], only [{SECTION}]")
        yield from parser.items(section)


def _value(name: str, value: str) -> Any:
    field = PARAMETERS.get(name)
    if field is None:
        raise ConfigError(f"there is no parameter {name.replace('_', ' ')!r}")
    about = field.metadata
    shown = name.replace("_", " ")
    try:
        parsed = about["parse"](value.strip())
    except ValueError as error:
        raise ConfigError(f"{shown} = {value}: {error}") from error
    low, high = about["low"], about["high"]
    if low is not None and not low <= parsed <= high:
        raise ConfigError(f"{shown} = {value}: must be from {low:g} to {high:g}")
    return parsed


def spelled(value: Any) -> str:
    """A value as the file has it."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def describe() -> str:
    """Every parameter with its default and meaning, as an example file."""
    lines = [f"[{SECTION}]"]
    for name, field in PARAMETERS.items():
        lines += ["", f"# {field.metadata['meaning']}"]
        lines += [f"{name.replace('_', ' ')} = {spelled(field.default)}".rstrip()]
    return "\n".join(lines) + "\n"
