"""The log: one line per event in the life of a connection, as key=value; nothing per message or transfer."""

from __future__ import annotations

import json
import logging
import sys

_log = logging.getLogger("rdmaproxy")


def start(level: int) -> None:
    """Sends the log to standard error. `level` is the configuration's `log level`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s level=%(levelname)s %(message)s"))
    _log.handlers[:] = [handler]
    _log.propagate = False
    _log.setLevel({0: logging.WARNING, 1: logging.INFO, 2: logging.INFO}.get(level, logging.DEBUG))


def event(name: str, /, **members: object) -> None:
    """What happens in a normal life."""
    _log.info("%s", _line(name, members))


def refusal(name: str, /, **members: object) -> None:
    """What was refused or failed: it says what was asked, what the limit is, what to change."""
    _log.warning("%s", _line(name, members))


def detail(name: str, /, **members: object) -> None:
    """What only developers want to know."""
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("%s", _line(name, members))


def _line(name: str, members: dict[str, object]) -> str:
    return " ".join(
        [f"event={name}", *(f"{key}={_value(value)}" for key, value in members.items())]
    )


def _value(value: object) -> str:
    if isinstance(value, tuple) and len(value) == 2:
        host, port = value
        value = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if text and plain else json.dumps(text)
