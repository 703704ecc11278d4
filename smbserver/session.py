"""Sessions and their channels ([MS-SMB2] 3.3.1.8, 3.3.1.14).

A session belongs to the worker, not to a connection: every connection that is bound to it reaches its trees and
opens. What belongs to the pair of a session and a connection is a `Binding`, the specification's "channel".
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smbserver.connection import Connection
    from smbserver.encryption import Cipher
    from smbserver.keys import Keys
    from smbserver.open import Open
    from smbserver.signing import Signer
    from smbserver.tree import Tree
    from smbserver.user import User
    from smbserver.wire.negotiate import Dialect

MAX_CHANNELS = 32
"""Connections bound to one session; what Windows and Samba allow."""

MAX_TREES = 1024
"""Tree connects of one session; a client makes one per share."""


class SessionState(Enum):
    """[MS-SMB2] 3.3.1.8, Session.State."""

    IN_PROGRESS = "in progress"
    """The first authentication is under way."""
    VALID = "valid"
    """Authenticated; requests are served."""
    CLOSED = "closed"
    """Logged off, replaced or without a channel; nobody may use it any more."""


@dataclass(slots=True, eq=False)
class Binding:
    """One connection of one session ([MS-SMB2] 3.3.1.14, a channel)."""

    session: Session
    connection: Connection
    signer: Signer | None
    """Signs and verifies with Channel.SigningKey; None for a guest, who has no key."""


@dataclass(slots=True, eq=False)
class Session:
    """[MS-SMB2] 3.3.1.8."""

    id: int
    dialect: Dialect
    client_guid: bytes
    cipher_id: int = 0
    signing_algorithm: int = 0
    """Dialect and algorithms of the connection it was set up on; every other one must fit them."""
    state: SessionState = SessionState.IN_PROGRESS
    user: User | None = None
    """On whose behalf its requests are served now."""
    owner: User | None = None
    """Who set it up: nobody else binds a channel to it or reauthenticates, but anonymously."""
    keys: Keys | None = None
    """Of the first authentication. Bindings are signed with its signing key even when that connection is gone."""
    signer: Signer | None = None
    """Signs with Session.SigningKey and the session's algorithm: the legs of a binding."""
    cipher: Cipher | None = None
    """Seals and opens; shared by all channels, so that no nonce is ever used twice."""
    signing_required: bool = False
    encrypt_data: bool = False
    bindings: dict[Connection, Binding] = field(default_factory=dict)
    trees: dict[int, Tree] = field(default_factory=dict)
    opens: dict[int, Open] = field(default_factory=dict)
    """By volatile id, session-wide: a handle opened on one channel is read on another."""
    created: float = field(default_factory=time.time)
    ends: float = math.inf
    """[MS-SMB2] 3.3.1.8, ExpirationTime: seconds since the epoch; who it is must be proved again then."""
    rdma_offered: tuple[str, ...] | None = None
    """Addresses with RDMA that the client was told of; None: it has not asked for the interfaces."""
    next_tree: int = 1

    @property
    def has_expired(self) -> bool:
        """[MS-SMB2] 3.3.1.8, the state Expired: only what gives things back is served, and a new proof."""
        return time.time() >= self.ends

    def last_until(self, ends: float) -> None:
        """Who it is has been proved, again perhaps, until then."""
        self.ends = ends
        for connection in self.bindings:
            connection.quick.bind(self)

    def close(self) -> None:
        """End the session on all its channels: opens, trees, bindings. The connections stay."""
        self.state = SessionState.CLOSED
        for tree in list(self.trees.values()):
            tree.close()
        for opened in list(self.opens.values()):
            opened.close()
        self.opens.clear()
        for connection in list(self.bindings):
            connection.forget(self)
        self.bindings.clear()
