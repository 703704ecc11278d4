"""How a socket that another process hands over becomes a connection, or ends at once.

A client whose socket stays open without anybody behind it waits for its own deadline, a minute and more: whatever fails
here costs this one connection now, with a line in the log and a count.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smbdirect.channel import Channel
from smbdirect.channel_facts import ChannelFacts
from smbserver import log as logs
from smbserver.connection import Connection

if TYPE_CHECKING:
    from smbserver.dispatch import Dispatcher
    from smbserver.service import Service

log = logging.getLogger(__name__)

Prepare = Callable[[Connection], None]
"""Gives a connection what was negotiated on it before."""


class Unadmitted(Exception):
    """A connection cannot be served; the sentence says why."""


def admit(
    service: Service,
    dispatcher: Dispatcher,
    packet: dict[str, Any],
    raw: bytes,
    sock: socket.socket | None,
    prepare: Prepare = lambda connection: None,
) -> None:
    """Serve a connection; `raw` is what was read from it before. None of what goes wrong is raised."""
    with contextlib.ExitStack() as undo:
        if sock is not None:
            undo.callback(sock.close)
        try:
            channel = Channel(_passed(sock), ChannelFacts.from_json(packet["facts"]), initial=raw)
            undo.callback(channel.close)
            connection = Connection(service, channel, dispatcher)
            undo.callback(connection.fail, "it could not be admitted")
            prepare(connection)
            connection.start()
        except Exception as error:
            service.counters["connections_not_admitted"] += 1
            log.error("%s was dropped: %s", _name(packet), logs.reason(error))
            undo.callback(service.connection_ended)
        else:
            undo.pop_all()


def _passed(sock: socket.socket | None) -> socket.socket:
    if sock is None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise Unadmitted(f"the worker has {limit} descriptors, and none was left (RLIMIT_NOFILE)")
    return sock


def _name(packet: dict[str, Any]) -> str:
    """As far as it is known who it is."""
    try:
        facts = ChannelFacts.from_json(packet["facts"])
    except Exception:
        return "a connection"
    return f"{facts.transport} {facts.remote[0]}:{facts.remote[1]}"
