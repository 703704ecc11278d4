"""Which worker serves a client: one process per ClientGUID, so that all its channels meet in one place.

A warm spare is always ready, since a Python process takes a third of a second to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smbdirect.channel_facts import ChannelFacts
from smbserver import locks, share_modes
from smbserver.caching_table import CachingTable
from smbserver.durable.expiry import Expiry
from smbserver.durable.parked import Parked
from smbserver.durable.persistent import PersistentOpens
from smbserver.handover import Link
from smbserver.store import KEEPER, WORKER_BITS, Store

log = logging.getLogger(__name__)

MAX_WORKERS = 1024
"""Worker processes; each takes about 40 MiB. More clients than that are refused."""

ANSWER_DEADLINE = 2.0
"""Seconds that an administrator's question waits for a worker that is busy."""

STOP_DEADLINE = 5.0
"""Seconds that workers have to end before they are killed."""

RESPAWN_DELAY = 1.0
"""Seconds before another spare is started after one died young: a broken installation must not spin."""


class WorkerProcess:
    """One worker as the listener sees it."""

    def __init__(self, routes: Routes, number: int, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [*command, "--link", str(theirs.fileno()), "--worker", str(number)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self.number = number
        self.guid: bytes | None = None
        """The client that it serves; None: the spare, or one that no other connection can join."""
        self.served = 0
        self._routes = routes
        self._answers: dict[int, tuple[bytearray, asyncio.Future[dict[str, Any]]]] = {}
        self._link = Link(ours, self._on_packet, self._on_end)
        self._pidfd = os.pidfd_open(self.process.pid)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    @property
    def leaving(self) -> bool:
        """Whether it takes no more connections. A killed process is noticed here before its link ends."""
        return self._link.closed or self.process.poll() is not None

    def hand_over(self, sock: socket.socket, facts: ChannelFacts, initial: bytes) -> bool:
        """Give it a connection; the socket is its own from now on. False: it takes none."""
        taken = self._link.send({"op": "connection", "facts": facts.to_json()}, initial, sock)
        self.served += taken
        return taken

    def send(self, packet: dict[str, Any]) -> None:
        """Tell it something."""
        self._link.send(packet)

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """What it answers to an administrator; None if it does not."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        identity = id(future)
        self._answers[identity] = bytearray(), future
        self._link.send({"op": "ask", "id": identity, "request": request})
        try:
            async with asyncio.timeout(ANSWER_DEADLINE):
                return await future
        except (TimeoutError, asyncio.CancelledError):
            return None
        finally:
            self._answers.pop(identity, None)

    def leave(self) -> None:
        """It gets no more connections and ends with its last one."""
        self._link.close()

    def _on_packet(self, packet: dict[str, Any], raw: bytes, passed: socket.socket | None) -> None:
        if passed is not None:
            passed.close()
        if packet.get("op") == "answer":
            self._on_answer(packet, raw)
        elif packet.get("op") == "parked":
            self._routes.expiry.within(packet["seconds"])
        elif packet.get("op") == "idle" and packet["served"] == self.served:
            self._routes.remove(self)
            self.leave()

    def _on_answer(self, packet: dict[str, Any], raw: bytes) -> None:
        pieces, future = self._answers.get(packet["id"], (bytearray(), None))
        pieces += raw
        if future is not None and not packet["more"] and not future.done():
            future.set_result(json.loads(pieces))

    def _on_end(self) -> None:
        self._routes.remove(self)

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self.process.wait()
        if code not in (0, -signal.SIGTERM):
            log.error("worker %d (pid %d) ended with %d", self.number, self.process.pid, code)
        self._link.close()
        for _, future in self._answers.values():
            future.cancel()
        self._routes.exited(self)
        if not self.ended.done():
            self.ended.set_result(None)


class Routes:
    """The workers, and which client each belongs to."""

    def __init__(self, options: Sequence[str], server_guid: bytes, store: Store) -> None:
        self._store = store
        share_modes.attach(store)
        locks.attach(store)
        self._parked, self._persistent = Parked(store), PersistentOpens(store)
        self.expiry = Expiry(self._parked, self._end_the_expired)
        self._command = [
            *(sys.executable, "-m", "smbserver.worker", "--server-guid", server_guid.hex()),
            *options,
        ]
        self.workers: set[WorkerProcess] = set()
        self._by_guid: dict[bytes, WorkerProcess] = {}
        self._spare: WorkerProcess | None = None
        self._next = 0
        self._stopping = False
        self.on_change: Callable[[], None] = lambda: None
        """Called when a client gets a worker, and when a worker has ended."""
        self._rdma: dict[str, Any] = {"op": "rdma", "addresses": []}

    @property
    def clients(self) -> int:
        """Workers that serve somebody."""
        return len(self.workers) - (self._spare is not None)

    def prepare(self) -> None:
        """Have a spare ready."""
        if self._spare is None and not self._stopping and len(self.workers) < MAX_WORKERS:
            self._spare = self._start()

    def find(self, guid: bytes) -> WorkerProcess | None:
        """The worker of a client, or a fresh one; a GUID of zero names nobody and gets one of its own."""
        known = self._by_guid.get(guid)
        if known is not None and not known.leaving:
            return known
        worker, self._spare = self._spare, None
        if worker is not None and worker.leaving:
            worker = None
        if worker is None and len(self.workers) < MAX_WORKERS:
            worker = self._start()
        if worker is None:
            return None
        if any(guid):
            worker.guid = guid
            self._by_guid[guid] = worker
        asyncio.get_running_loop().call_soon(self.prepare)
        self.on_change()
        return worker

    def remove(self, worker: WorkerProcess) -> None:
        """It takes no more connections."""
        if self._spare is worker:
            self._spare = None
        if worker.guid is not None and self._by_guid.get(worker.guid) is worker:
            del self._by_guid[worker.guid]

    def exited(self, worker: WorkerProcess) -> None:
        """Its process is gone."""
        self.remove(worker)
        self.workers.discard(worker)
        if not self._stopping:
            self.on_change()
            self.forget_the_dead()
            self.tell({"op": "gone", "worker": worker.number})
            asyncio.get_running_loop().call_later(RESPAWN_DELAY, self.prepare)

    def forget_the_dead(self) -> None:
        """What dead workers had in the store vanishes; their persistent opens wait for their clients."""
        is_dead = functools.cache(self._store.has_ended)
        self._persistent.park_orphans(self._parked, time.time(), is_dead)
        self.expiry.look()
        self._store.shared.forget(is_dead)
        share_modes.forget(self._store, is_dead)
        locks.forget(self._store, is_dead)
        CachingTable(self._store).count_anew()
        self._store.settle_wills()

    def _end_the_expired(self) -> None:
        for worker in self.workers:
            if not worker.leaving:
                worker.send({"op": "expire"})
                return

    def announce_rdma(self, addresses: Sequence[str]) -> None:
        """Tell all workers, also later ones, where the proxy listens."""
        self._rdma = {"op": "rdma", "addresses": list(addresses)}
        self.tell(self._rdma)

    def tell(self, packet: dict[str, Any]) -> None:
        """Tell all workers something."""
        for worker in self.workers:
            worker.send(packet)

    async def ask(self, **request: Any) -> list[dict[str, Any]]:
        """What all workers answer to an administrator."""
        answers = await asyncio.gather(*(worker.ask(request) for worker in list(self.workers)))
        return [answer for answer in answers if answer is not None]

    async def stop(self) -> None:
        """End all workers; kill who does not."""
        self._stopping = True
        self.expiry.stop()
        workers = list(self.workers)
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGTERM)
        ended = [worker.ended for worker in workers]
        if ended:
            await asyncio.wait(ended, timeout=STOP_DEADLINE)
        for worker in workers:
            if not worker.ended.done():
                log.warning("worker %d does not end: killed", worker.number)
                worker.process.kill()
                worker.process.wait()

    def _start(self) -> WorkerProcess:
        taken = {worker.number for worker in self.workers}
        while True:
            self._next = (self._next + 1) % (1 << WORKER_BITS)
            # A worker outlives its listener as long as it has connections.
            if self._next in (0, KEEPER) or self._next in taken:
                continue
            if self._store.is_dead(self._next):
                break
        worker = WorkerProcess(self, self._next, self._command)
        self.workers.add(worker)
        worker.send(self._rdma)
        return worker
