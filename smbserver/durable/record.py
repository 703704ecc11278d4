"""What is written down of a durable open, so that another process can take it up."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smbserver.durable.request import NO_GUID
from smbserver.locks import Range

if TYPE_CHECKING:
    from smbserver.share_modes import Key
    from smbserver.user import User


VERSION = 1
"""Of the fields below in tables on disk and in memory: one more with each change of them."""


@dataclass(frozen=True, slots=True)
class Durability:
    """What was granted to an open."""

    persistent_id: int
    timeout: float
    """Seconds that it waits for its client."""
    is_persistent: bool = False
    """It survives the server too."""
    create_guid: bytes = NO_GUID
    app_instance_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Cached:
    """The oplock or lease of an open."""

    state: int = 0
    is_oplock: bool = False
    lease_key: bytes = b""
    """Empty: an oplock, or nothing."""
    version: int = 0
    epoch: int = 0
    parent_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """An open that waits for its client, or that would if its worker died now."""

    persistent_id: int
    worker: int
    """Who has it; the keeper's number while the client is away."""
    timeout: float
    """Seconds that it waits."""
    deadline: float
    """When that ends, in seconds since the epoch, which a restart does not change; 0 while the client is there."""
    is_persistent: bool
    create_guid: bytes
    """Zeros: durable version 1."""
    app_instance_id: bytes
    client_guid: bytes
    user: tuple[str, int, bool]
    share: str
    file: Key
    path: str
    granted_access: int
    share_access: int
    create_options: int
    create_action: int
    delete_on_close: bool
    position: int
    cached: Cached
    locks: tuple[Range, ...]
    lock_sequences: tuple[tuple[int, int], ...]

    def to_json(self) -> dict[str, Any]:
        """For tables: bytes as hexadecimal digits."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Record:
        cached = dict(found["cached"])
        for name in ("lease_key", "parent_key"):
            cached[name] = None if cached[name] is None else bytes.fromhex(cached[name])
        plain = dict(found)
        for name in ("create_guid", "app_instance_id", "client_guid"):
            plain[name] = bytes.fromhex(plain[name])
        for name in ("user", "file"):
            plain[name] = tuple(plain[name])
        plain["cached"] = Cached(**cached)
        plain["lock_sequences"] = tuple(
            (index, number) for index, number in found["lock_sequences"]
        )
        plain["locks"] = tuple(Range(*one) for one in found["locks"])
        return cls(**plain)

    def belongs_to(self, user: User | None) -> bool:
        """Whether this user has opened it."""
        return user is not None and (user.name, user.uid, user.guest) == self.user


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value
