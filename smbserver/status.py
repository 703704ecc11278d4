"""What a worker tells of its sessions: channels, open files, locks. docs/administration.md describes every key."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from smbserver import locks
from smbserver.wire.negotiate import Capabilities, Dialect
from smbserver.wire.negotiate_contexts import EncryptionCipher, SigningAlgorithm

if TYPE_CHECKING:
    from smbserver.connection import Connection
    from smbserver.open import Open
    from smbserver.service import Service
    from smbserver.session import Session

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


def describe(service: Service, files: bool = False) -> dict[str, Any]:
    """The state of a worker as JSON; with the open files of each session, if they are asked for."""
    sessions = []
    for session in service.valid_sessions():
        described = describe_session(session) | {"why_not_rdma": why_not_rdma(service, session)}
        if files:
            described["open_files"] = [
                describe_open(service, opened) for opened in session.opens.values()
            ]
        sessions.append(described)
    return {
        "worker": service.store.worker,
        "pid": os.getpid(),
        "connections": len(service.connections),
        "sessions": sessions,
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
        "connection": facts.connection,
        "placement": connection.pool is not None,
        "bytes_inline": moved.bytes_inline_sent + moved.bytes_inline_received,
        "bytes_inline_sent": moved.bytes_inline_sent,
        "bytes_inline_received": moved.bytes_inline_received,
        "bytes_placed_by_rdma": moved.bytes_rdma_written + moved.bytes_rdma_read,
        "bytes_rdma_written": moved.bytes_rdma_written,
        "bytes_rdma_read": moved.bytes_rdma_read,
    }


def describe_open(service: Service, opened: Open) -> dict[str, Any]:
    """One open file, directory, stream or pipe."""
    holding = service.caching.of(opened)
    stream = opened.file.key[2]
    return {
        "file": f"0x{opened.volatile_id:x}",
        "share": opened.tree.share.name,
        "path": f"{opened.path}:{stream}" if stream else opened.path,
        "is_directory": opened.is_directory,
        "granted_access": f"0x{opened.granted_access:08x}",
        "share_access": _letters(opened.share_access, "rwd"),
        "delete_on_close": opened.delete_on_close,
        "caching": _letters(holding.state, "rhw") if holding is not None else "",
        "is_lease": holding is not None and holding.is_lease,
        "locks": [one._asdict() for one in locks.held_by(opened)],
    }


def _letters(bits: int, letters: str) -> str:
    """One letter for each bit that is set, the lowest first."""
    return "".join(letter for place, letter in enumerate(letters) if bits >> place & 1)


def why_not_rdma(service: Service, session: Session) -> str:
    """Why nothing of a session moves by RDMA, the first reason that holds; empty where something can."""
    bindings = list(session.bindings)
    if any(one.channel.facts.transport == "rdma" for one in bindings):
        if session.encrypt_data:
            return "encrypted: payload travels inside the messages"
        return "signed: payload travels inside the messages" if session.signing_required else ""
    if not service.config.general.server_multi_channel_support:
        return "server multi channel support = no"
    if session.dialect < Dialect.SMB_3_0:
        return f"dialect {dialect_name(session.dialect)} knows no RDMA"
    if not any(one.client_capabilities & Capabilities.MULTI_CHANNEL for one in bindings):
        return "the client does not offer multichannel"
    if not service.rdma_addresses:
        return "no rdmaproxy listens"
    if session.rdma_offered is None:
        return "the client has not asked for the interfaces"
    if not session.rdma_offered:
        return "no interface that the client can reach has RDMA"
    return f"the client was told of {', '.join(session.rdma_offered)} and has not connected there"


def dialect_name(dialect: int) -> str:
    """3.1.1 for 0x0311, 2.1 for 0x0210."""
    return ".".join(f"{dialect:03x}").removesuffix(".0")


def _address(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
