"""The service: what all connections of one worker share."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from smbdirect.pool import Pool
from smbserver import locks, share_modes
from smbserver.auth.kerberos import kerberos
from smbserver.auth.passdb import Passdb
from smbserver.durable.opens import DurableOpens
from smbserver.durable.replay import Replays
from smbserver.oplock import Caching
from smbserver.quick import Ranges
from smbserver.session import SessionState
from smbserver.store import Store
from smbserver.wire import filetime

if TYPE_CHECKING:
    from smbserver.config import Config
    from smbserver.connection import Connection
    from smbserver.session import Session

MAX_SESSIONS = 4096
"""Sessions of one worker, that is of one client machine."""


class Service:
    """The server as its connections see it: configuration, accounts, sessions, memory for RDMA, counters."""

    def __init__(
        self, config: Config, store: Store | None = None, server_guid: bytes | None = None
    ) -> None:
        self.config = config
        self.store = store or Store()
        share_modes.attach(self.store)
        locks.attach(self.store)
        self.server_guid = server_guid or uuid.uuid4().bytes
        self.passdb = Passdb(config.accounts_path)
        self.kerberos = kerberos(config.general)
        self.started = filetime.now()
        self.sessions: dict[int, Session] = {}
        self.connections: set[Connection] = set()
        self.counters: Counter[str] = Counter()
        self.rdma_addresses: tuple[str, ...] = ()
        """Where the proxy listens; a wildcard address stands for all of its family."""
        self.async_ids = itertools.count(1)
        self.on_idle: Callable[[], None] | None = None
        """Called when the last connection has ended."""
        self.caching = Caching(self)
        self.durable_opens = DurableOpens(self)
        self.replays = Replays()
        self._pool: Pool | None = None
        self._quick_ranges: Ranges | None = None

    @property
    def pool(self) -> Pool:
        """The worker's memory for RDMA, made when the first RDMA channel has a session."""
        if self._pool is None:
            self._pool = Pool(self.config.general.rdma_pool_size)
        return self._pool

    @property
    def quick_ranges(self) -> Ranges:
        """The pool's part for what is served in C."""
        if self._quick_ranges is None:
            self._quick_ranges = Ranges(self.pool)
        return self._quick_ranges

    def reload(self, config: Config) -> None:
        """Take a new configuration; sessions, trees and what was negotiated stay."""
        self.config = config
        self.passdb = Passdb(config.accounts_path)
        self.kerberos = kerberos(config.general)

    def add_session(self, session: Session) -> bool:
        """False: there are too many."""
        if len(self.sessions) >= MAX_SESSIONS:
            self.counters["sessions_refused"] += 1
            return False
        self.sessions[session.id] = session
        return True

    def end_session(self, session: Session) -> None:
        """Close it and forget it; its durable opens wait for the client."""
        self.sessions.pop(session.id, None)
        self.durable_opens.park_all(session)
        if session.state is not SessionState.CLOSED:
            session.close()

    def valid_sessions(self) -> Iterable[Session]:
        """Those that are authenticated."""
        return (one for one in self.sessions.values() if one.state is SessionState.VALID)

    def connection_ended(self) -> None:
        """Called by each connection at its end."""
        if not self.connections and self.on_idle is not None:
            self.on_idle()

    def close(self) -> None:
        """End everything."""
        for connection in list(self.connections):
            connection.fail("the server is ending")
        for session in list(self.sessions.values()):
            self.end_session(session)
        if self._pool is not None:
            self._pool.close()
            self._pool = self._quick_ranges = None
