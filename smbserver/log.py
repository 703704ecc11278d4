"""Where log lines go: standard error, one line each, with a priority for the journal when it reads them."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))
"""sd-daemon(3)."""


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = next((one for level, one in _PRIORITIES if record.levelno >= level), 7)
        return f"<{priority}>{super().format(record)}"


def level_of(name: str) -> int:
    """A level by its name, or by Samba's number: 0 errors, 1 warnings, 2 and 3 information, above it all."""
    if name.isdigit():
        numbers = (logging.ERROR, logging.WARNING, logging.INFO, logging.INFO)
        return numbers[int(name)] if int(name) < len(numbers) else logging.DEBUG
    levels = logging.getLevelNamesMapping()
    return levels.get(name.upper(), logging.INFO)


def reason(error: BaseException) -> str:
    """What an error was and where it was raised, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def start(level: str) -> None:
    """Log to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
        )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    # pyspnego logs whole tokens at debug level.
    logging.getLogger("spnego").setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """Log that much from now on."""
    logging.getLogger().setLevel(level_of(level))
