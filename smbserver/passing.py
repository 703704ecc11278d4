"""What workers do for each other's clients: a session is closed by its owner, a connection moves to it.

A session's number names its owner. Clients of one ClientGUID meet in one worker from the start; this is for the rest:

1. SESSION_SETUP names a PreviousSessionId that another worker owns: that one is asked to close it, and the response
   waits until it has;
2. SESSION_SETUP binds to a session that another worker owns: the connection moves there, with what was negotiated and
   the request itself, and the owner answers, whatever the answer is. A connection moves only as long as it carries
   nothing else: no session, no request under way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

from smbserver import admission
from smbserver.connection import Connection
from smbserver.credits import MessageWindow
from smbserver.handover import MAX_PACKET
from smbserver.preauth import PreauthHash
from smbserver.store import worker_of
from smbserver.wire.negotiate import Dialect

if TYPE_CHECKING:
    import socket

    from smbserver.dispatch import Call, Dispatcher
    from smbserver.service import Service
    from smbserver.store import Packet
    from smbserver.user import User

log = logging.getLogger(__name__)

MAX_MOVED = MAX_PACKET - (16 << 10)
"""Bytes that were read from a connection and move with it; the rest of the packet is for what was negotiated."""

_PLAIN = (
    "client_capabilities",
    "client_security_mode",
    "capabilities",
    "security_mode",
    "cipher_id",
    "signing_algorithm",
    "max_transact_size",
    "max_read_size",
    "max_write_size",
    "large_mtu",
)
"""What was negotiated, as far as it is numbers."""


def attach(service: Service) -> None:
    """Close sessions that other workers ask to close."""

    def close(sender: int, packet: Packet) -> Packet:
        session = service.sessions.get(packet["session"])
        if (
            session is not None
            and session.owner is not None
            and packet["user"] == _who(session.owner)
        ):
            service.counters["sessions_ended_by_another_worker"] += 1
            service.end_session(session)
        return {}

    service.store.notifier.on("close-session", close)


# 1. PreviousSessionId


def is_elsewhere(service: Service, session_id: int) -> bool:
    """Whether another worker owns the session, if there is such a one."""
    owner = worker_of(session_id)
    store = service.store
    return bool(session_id) and owner != store.worker and store.presence.is_alive(owner)


async def end_elsewhere(service: Service, session_id: int, user: User) -> None:
    """Return when the owner has closed the session, if the same user had set it up."""
    packet = {"op": "close-session", "session": session_id, "user": _who(user)}
    await service.store.notifier.ask(worker_of(session_id), packet)


def _who(user: User) -> list[Any]:
    return [user.name, user.uid, user.guest]


# 2. Binding


def may_move(call: Call) -> bool:
    """Whether the connection carries nothing but this request."""
    connection, window = call.connection, call.connection.window
    return (
        is_elsewhere(connection.service, call.header.session_id)
        and len(call.chain.calls) == 1
        and call.chain.sealed is None
        and connection.is_idle
        and window is not None
        and window.is_in_order
        and len(call.message) <= MAX_MOVED
    )


def move(call: Call) -> None:
    """Give the connection to the owner of the session. It leaves when the channel has delivered this request."""
    call.connection.channel.pause_reading()
    asyncio.get_running_loop().call_soon(_move, call.connection, call)


def _move(connection: Connection, call: Call) -> None:
    try:
        if connection.channel.closed is None:
            _pass_on(connection, call)
    except Exception as error:
        connection.broke(error)


def _pass_on(connection: Connection, call: Call) -> None:
    channel, window = connection.channel, connection.window
    assert window is not None
    facts = channel.facts.to_json()
    negotiated: dict[str, Any] = {name: int(getattr(connection, name)) for name in _PLAIN}
    negotiated["dialect"] = connection.dialect
    negotiated["client_dialects"] = list(connection.client_dialects)
    negotiated["client_guid"] = connection.client_guid.hex()
    negotiated["preauth"] = connection.preauth.value.hex()
    negotiated["window"] = [call.header.message_id, window.high]
    sock, rest = channel.detach()
    raw = len(call.message).to_bytes(4, "big") + bytes(call.message) + rest
    owner = worker_of(call.header.session_id)
    packet = {"facts": facts, "negotiated": negotiated}
    passed = False
    try:
        if len(raw) > MAX_MOVED:
            words = "%s: dropped: %d bytes wait, it cannot move to worker %d"
            log.info(words, connection, len(raw), owner)
            return
        connection.count("connections_passed_on")
        passed = connection.service.store.notifier.pass_connection(owner, packet, raw, sock)
    finally:
        if not passed:
            sock.close()  # perhaps the owner has just died: the client comes back


def take_over(
    service: Service, dispatcher: Dispatcher, packet: Packet, raw: bytes, sock: socket.socket | None
) -> None:
    """Serve a connection that another worker has passed on, from the request on that it could not answer."""
    service.counters["connections_taken_over"] += 1
    restore = functools.partial(_restore, packet)
    admission.admit(service, dispatcher, packet, raw, sock, restore)


def _restore(packet: Packet, connection: Connection) -> None:
    negotiated = packet["negotiated"]
    for name in _PLAIN:
        setattr(connection, name, negotiated[name])
    connection.large_mtu = bool(negotiated["large_mtu"])
    connection.dialect = Dialect(negotiated["dialect"])
    connection.client_dialects = tuple(negotiated["client_dialects"])
    connection.client_guid = bytes.fromhex(negotiated["client_guid"])
    connection.preauth = PreauthHash(bytes.fromhex(negotiated["preauth"]))
    low, high = negotiated["window"]
    limit = connection.service.config.general.smb2_max_credits
    connection.window = MessageWindow(limit, low, high)
