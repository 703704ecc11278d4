"""What a worker tells of its sessions, and how `smbserver status` shows it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from smbserver.wire.negotiate_contexts import EncryptionCipher, SigningAlgorithm

if TYPE_CHECKING:
    from smbserver.connection import Connection
    from smbserver.service import Service
    from smbserver.session import Session

MAX_SESSIONS_SHOWN = 64
"""Sessions of one worker that fit into a packet; a client has one to three."""

_SIGNING = {
    SigningAlgorithm.HMAC_SHA256: "HMAC-SHA256",
    SigningAlgorithm.AES_CMAC: "AES-CMAC",
    SigningAlgorithm.AES_GMAC: "AES-GMAC",
}
_ENCRYPTION = {
    EncryptionCipher.AES_128_CCM: "AES-128-CCM",
    EncryptionCipher.AES_128_GCM: "AES-128-GCM",
    EncryptionCipher.AES_256_CCM: "AES-256-CCM",
    EncryptionCipher.AES_256_GCM: "AES-256-GCM",
}


def describe(service: Service) -> dict[str, Any]:
    """The state of a worker as JSON."""
    sessions = [describe_session(session) for session in service.valid_sessions()]
    return {
        "worker": service.store.worker,
        "pid": os.getpid(),
        "connections": len(service.connections),
        "sessions": sessions[:MAX_SESSIONS_SHOWN],
        "sessions_in_all": len(sessions),
        "counters": dict(service.counters),
    }


def describe_session(session: Session) -> dict[str, Any]:
    """One session with its channels."""
    channels = [describe_channel(connection) for connection in session.bindings]
    return {
        "session": f"0x{session.id:x}",
        "pid": os.getpid(),
        "user": session.user.name if session.user else "",
        "client": channels[0]["remote"].rpartition(":")[0] if channels else "",
        "client_guid": session.client_guid.hex(),
        "dialect": dialect_name(session.dialect),
        "signing": _SIGNING[SigningAlgorithm(session.signing_algorithm)] if session.signer else "",
        "signing_required": session.signing_required,
        "encryption": _ENCRYPTION[EncryptionCipher(session.cipher_id)] if session.cipher else "",
        "encryption_required": session.encrypt_data,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(session.created)),
        "opens": len(session.opens),
        "trees": [tree.share.name for tree in session.trees.values()],
        "channels": channels,
    }


def describe_channel(connection: Connection) -> dict[str, Any]:
    """One connection: what it is, and what moved over it which way."""
    facts, moved = connection.channel.facts, connection.channel.statistics()
    return {
        "transport": facts.transport,
        "local": _address(facts.local),
        "remote": _address(facts.remote),
        "fabric": facts.fabric,
        "device": facts.device,
        "placement": connection.pool is not None,
        "bytes_inline": moved.bytes_inline_sent + moved.bytes_inline_received,
        "bytes_inline_sent": moved.bytes_inline_sent,
        "bytes_inline_received": moved.bytes_inline_received,
        "bytes_placed_by_rdma": moved.bytes_rdma_written + moved.bytes_rdma_read,
        "bytes_rdma_written": moved.bytes_rdma_written,
        "bytes_rdma_read": moved.bytes_rdma_read,
    }


def dialect_name(dialect: int) -> str:
    """3.1.1 for 0x0311, 2.1 for 0x0210."""
    return ".".join(f"{dialect:03x}").removesuffix(".0")


def _address(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_COLUMNS = ("SESSION", "USER", "CLIENT", "DIALECT", "SIGN", "ENCRYPT", "OPENS", "CHANNELS")
_CHANNEL_COLUMNS = ("  CH", "TRANSPORT", "LOCAL", "REMOTE", "INLINE", "BY RDMA", "NOTE")


def table(status: Mapping[str, Any]) -> str:
    """The state of a server for people: one line per session, one per channel under it."""
    lines = []
    for session in status["sessions"]:
        channels = session["channels"]
        rdma = sum(channel["transport"] == "rdma" for channel in channels)
        required = "(req)" if session["signing_required"] else ""
        rows = [
            _COLUMNS,
            (
                session["session"],
                session["user"],
                session["client"],
                session["dialect"],
                (session["signing"] + required) or "-",
                session["encryption"] if session["encryption_required"] else "-",
                str(session["opens"]),
                f"{len(channels)} ({rdma} rdma)",
            ),
        ]
        lines += _align(rows)
        lines += _align([_CHANNEL_COLUMNS, *map(_channel_row, range(len(channels)), channels)])
        lines.append("")
    if not lines:
        lines = ["no sessions", ""]
    listening = ", ".join(status.get("listening", ())) or "nowhere"
    return "\n".join([*lines, f"listening on {listening}; rdma: {status.get('rdma') or 'none'}"])


def _channel_row(number: int, channel: Mapping[str, Any]) -> tuple[str, ...]:
    note = "placement on" if channel["placement"] else ""
    return (
        f"  {number}",
        channel["transport"],
        channel["local"],
        channel["remote"],
        _bytes(channel["bytes_inline"]),
        _bytes(channel["bytes_placed_by_rdma"]),
        note,
    )


def _bytes(number: int) -> str:
    value, unit = float(number), ""
    for unit in ("", "K", "M", "G", "T"):
        if value < 1024 or unit == "T":
            break
        value /= 1024
    return f"{value:.0f}{unit}" if value >= 10 or not unit else f"{value:.1f}{unit}"


def _align(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
