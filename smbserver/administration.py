"""What an administrator asks a worker, by way of the listener: to tell how it is, to close something, to log more.

Each operation is given the worker's service and the arguments of the request, and answers with a JSON object.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from smbserver import log as logs
from smbserver import status

if TYPE_CHECKING:
    from smbserver.service import Service

log = logging.getLogger(__name__)

Answer = dict[str, Any]


def serve(service: Service, request: Mapping[str, Any]) -> Answer:
    """Carry out one operation; an empty answer for one that is not known."""
    operation = OPERATIONS.get(str(request.get("op")))
    return {} if operation is None else operation(service, request)


def tell(service: Service, request: Mapping[str, Any]) -> Answer:
    """How the worker is; with its open files where they are asked for, since there may be thousands."""
    return status.describe(service, bool(request.get("files")))


def close_session(service: Service, request: Mapping[str, Any]) -> Answer:
    """End a session on all its channels. The connections stay: the client may log on again."""
    session = service.sessions.get(int(request["session"]))
    if session is None:
        return {"closed": 0}
    log.info("session %#x is closed by an administrator", session.id)
    service.counters["sessions_closed_by_administrator"] += 1
    service.end_session(session)
    return {"closed": 1}


def close_file(service: Service, request: Mapping[str, Any]) -> Answer:
    """End one open; the client is told at its next request."""
    session = service.sessions.get(int(request["session"]))
    opened = session.opens.pop(int(request["file"]), None) if session is not None else None
    if session is None or opened is None:
        return {"closed": 0}
    log.info("%s, open in session %#x, is closed by an administrator", opened.path, session.id)
    service.counters["files_closed_by_administrator"] += 1
    opened.close()
    return {"closed": 1}


def debug(service: Service, request: Mapping[str, Any]) -> Answer:
    """Log that much from now on, until the next reload."""
    logs.set_level(str(request["level"]))
    return {"done": 1}


OPERATIONS: dict[str, Callable[[Service, Mapping[str, Any]], Answer]] = {
    "status": tell,
    "close-session": close_session,
    "close-file": close_file,
    "debug": debug,
}
