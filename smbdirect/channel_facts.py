"""What is known of a connection when it is handed over: docs/channel.md section 2, CHANNEL."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from smbdirect.frames import LENGTH_MASK


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """What is known of a connection; docs/channel.md section 2, CHANNEL. Sizes are bytes."""

    transport: str
    """`tcp` or `rdma`"""
    local: tuple[str, int]
    remote: tuple[str, int]
    fabric: str = ""
    device: str = ""
    role: str = "server"
    connection: int = 0
    """The proxy's number for it."""
    max_send_size: int = 0
    max_receive_size: int = 0
    max_fragmented_send_size: int = LENGTH_MASK
    max_fragmented_receive_size: int = LENGTH_MASK
    max_read_write_size: int = 0
    read_depth: int = 0
    invalidation: bool = True
    """Whether the peer may end an exposure by Send with Invalidate; otherwise it must not be asked to."""

    @classmethod
    def from_json(cls, o: dict[str, Any]) -> Self:
        """From a proxy's CHANNEL object, or from `to_json`; unknown members are ignored."""
        known = {field.name: o[field.name] for field in fields(cls) if field.name in o}
        known["local"] = (str(o["local"][0]), int(o["local"][1]))
        known["remote"] = (str(o["remote"][0]), int(o["remote"][1]))
        known.setdefault("transport", "rdma")
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_tcp(cls, sock: socket.socket, role: str = "server") -> Self:
        return cls("tcp", _address(sock.getsockname()), _address(sock.getpeername()), role=role)


def _address(name: Any) -> tuple[str, int]:
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return str(name), 0
