"""Small messages between workers: JSON objects over Unix sockets, in order, one connection per pair and direction.

    store.notifier.on("break", serve)            serve(sender, packet) -> None, an answer, or an awaitable of one
    store.notifier.send(worker, {"op": "break", "key": "..."})
    answer = await store.notifier.ask(worker, {"op": "close-session", "session": 17})     None: nobody answered

A message to a worker that is gone is dropped, a question to it answered by None; the same for one that does not know
the operation. A worker may write to itself.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from smbserver.handover import Link

log = logging.getLogger(__name__)

ANSWER_DEADLINE = 5.0
"""Seconds that `ask` waits; a worker that needs longer is stuck."""

BACKLOG = 1024
"""Workers that connect at the same time: all of them."""

Packet = dict[str, Any]
Handler = Callable[[int, Packet], Packet | Awaitable[Packet | None] | None]
"""Given the sender's number and the packet; what it returns is the answer, if one was asked for."""

OnConnection = Callable[[Packet, bytes, socket.socket | None], None]
"""None: there was no descriptor left for the socket."""


class Notifier:
    """One worker's end of all connections. Belongs to one asyncio loop."""

    def __init__(self, worker: int, folder: Path) -> None:
        self.worker = worker
        self.on_connection: OnConnection | None = None
        """Takes a client's connection that another worker passes on."""
        self._folder = folder
        self._folder_fd = -1
        self._handlers: dict[str, Handler] = {}
        self._links: dict[int, Link] = {}
        self._incoming: set[Link] = set()
        self._listening: socket.socket | None = None
        self._questions: dict[int, tuple[int, asyncio.Future[Packet | None]]] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Future[Packet | None]] = set()

    def on(self, op: str, handler: Handler) -> None:
        """Who serves an operation."""
        self._handlers[op] = handler

    def start(self) -> None:
        """Be there for others."""
        name = str(self.worker)
        (self._folder / name).unlink(missing_ok=True)
        self._listening = sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        sock.bind(self._path(name))
        sock.listen(BACKLOG)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._accept)

    def send(self, worker: int, packet: Packet) -> None:
        """Tell another worker something. It leaves when the present callback has returned.

        Not earlier, because the present one may act as a user who may not connect to the socket.
        """
        asyncio.get_running_loop().call_soon(self._deliver, worker, packet)

    async def ask(
        self, worker: int, packet: Packet, deadline: float = ANSWER_DEADLINE
    ) -> Packet | None:
        """What the other worker answers; None if it is gone, does not know the operation or is too slow."""
        number = next(self._numbers)
        future: asyncio.Future[Packet | None] = asyncio.get_running_loop().create_future()
        self._questions[number] = worker, future
        self.send(worker, {**packet, "question": number})
        try:
            async with asyncio.timeout(deadline):
                return await future
        except TimeoutError:
            log.warning("worker %d did not answer %s", worker, packet["op"])
            return None
        finally:
            del self._questions[number]

    def pass_connection(
        self, worker: int, packet: Packet, raw: bytes, passed: socket.socket
    ) -> bool:
        """Give a client's socket to another worker; it is its own from now on. False: it could not be reached."""
        link = self._link(worker)
        if link is None:
            return False
        return link.send({**packet, "op": "connection", "from": self.worker}, raw, passed)

    def close(self) -> None:
        """Nobody is told anything any more."""
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
            (self._folder / str(self.worker)).unlink(missing_ok=True)
        for link in [*self._links.values(), *self._incoming]:
            link.close()
        self._links.clear()
        self._incoming.clear()
        for task in self._tasks:
            task.cancel()
        for _, future in self._questions.values():
            future.cancel()
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    # Outgoing

    def _deliver(self, worker: int, packet: Packet) -> None:
        if worker == self.worker:
            self._on_packet(None, {**packet, "from": worker}, b"", None)
            return
        link = self._link(worker)
        if link is None:
            self._unanswered(worker)
            return
        link.send({**packet, "from": self.worker})

    def _link(self, worker: int) -> Link | None:
        """The connection to a worker, made at the first use; None: it is gone."""
        link = self._links.get(worker)
        if link is not None and not link.closed:
            return link
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            sock.connect(self._path(str(worker)))
        except OSError as error:
            log.info("worker %d cannot be told anything: %s", worker, error.strerror)
            sock.close()
            return None
        link = Link(
            sock,
            lambda packet, raw, passed: self._on_packet(
                self._links.get(worker), packet, raw, passed
            ),
            lambda: self._unanswered(worker),
        )
        self._links[worker] = link
        return link

    def _unanswered(self, worker: int) -> None:
        """Its end of the connection is closed: who waits for an answer waits no longer."""
        for asked, future in list(self._questions.values()):
            if asked == worker and not future.done():
                future.set_result(None)

    def _path(self, name: str) -> str:
        """Short, however long the folder's own path is: a socket's has 107 bytes at most."""
        if self._folder_fd < 0:
            self._folder_fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder_fd}/{name}"

    # Incoming

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            sock, _ = self._listening.accept()
        except OSError:
            return
        link: Link

        def on_packet(packet: Packet, raw: bytes, passed: socket.socket | None) -> None:
            self._on_packet(link, packet, raw, passed)

        link = Link(sock, on_packet, lambda: self._incoming.discard(link))
        self._incoming.add(link)

    def _on_packet(
        self, link: Link | None, packet: Packet, raw: bytes, passed: socket.socket | None
    ) -> None:
        op = packet.get("op")
        if op == "connection" and self.on_connection is not None:
            self.on_connection(packet, raw, passed)
        elif passed is not None:
            passed.close()
        elif op == "answer":
            _, future = self._questions.get(packet["question"], (0, None))
            if future is not None and not future.done():
                future.set_result(packet["answer"])
        else:
            self._serve(link, packet)

    def _serve(self, link: Link | None, packet: Packet) -> None:
        handler = self._handlers.get(str(packet.get("op")))
        outcome = None if handler is None else handler(packet["from"], packet)
        if outcome is None or isinstance(outcome, dict):
            self._answer(link, packet, outcome)
            return
        task = asyncio.ensure_future(outcome)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._served(link, packet, task))

    def _served(
        self, link: Link | None, packet: Packet, task: asyncio.Future[Packet | None]
    ) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if task.exception() is not None:
            log.error("%s of another worker failed", packet["op"], exc_info=task.exception())
        self._answer(link, packet, None if task.exception() else task.result())

    def _answer(self, link: Link | None, packet: Packet, answer: Packet | None) -> None:
        number = packet.get("question")
        if number is None:
            return
        reply = {"op": "answer", "question": number, "answer": answer}
        if link is None:
            self._on_packet(None, reply, b"", None)
        else:
            link.send(reply)
