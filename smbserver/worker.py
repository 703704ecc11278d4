"""The process of one client: it is given sockets by the listener and serves them.

Started as `python -m smbserver.worker`, by exec; it maps no RDMA library and forks nothing. It ends when the listener
has closed its end of the pair and the last connection is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from smbserver import administration, admission, passing
from smbserver import log as logs
from smbserver.auth import acceptor
from smbserver.config import ConfigError, load
from smbserver.dispatch import Dispatcher
from smbserver.handover import Link
from smbserver.opcodes import TABLE
from smbserver.service import Service
from smbserver.store import Store

log = logging.getLogger(__name__)

IDLE_LINGER = 2.0
"""Seconds that a worker without connections waits for its client to come back."""

PIECE = 64 << 10
"""Bytes of an answer to an administrator that travel in one packet."""

GC_THRESHOLDS = (20000, 20, 100)
"""Requests make no reference cycles: the collector need not look as often as it does by default."""


class Worker:
    """The service and its link to the listener."""

    def __init__(self, service: Service, reload: Any) -> None:
        self.service = service
        self.link: Link | None = None
        self._reload = reload
        self._dispatcher = Dispatcher(TABLE)
        self._served = 0
        self._timer: asyncio.TimerHandle | None = None
        self._done = asyncio.get_running_loop().create_future()
        service.on_idle = self._on_idle
        service.durable_opens.on_parked = self._on_parked
        passing.attach(service)

    async def run(self, sock: socket.socket) -> None:
        """Serve until nobody is left."""
        notifier = self.service.store.notifier
        notifier.on_connection = self._take_over
        notifier.start()
        self.link = Link(sock, self._on_packet, self._on_listener_gone)
        await self._done

    def stop(self) -> None:
        """End all connections, then the process."""
        self.service.close()
        self._finish()

    def _on_packet(self, packet: dict[str, Any], raw: bytes, passed: socket.socket | None) -> None:
        op = packet.get("op")
        if op == "connection":
            self._admit(packet, raw, passed)
        elif op == "rdma":
            self.service.rdma_addresses = tuple(packet["addresses"])
        elif op == "ask":
            self._answer(packet["id"], administration.serve(self.service, packet["request"]))
        elif op == "gone":
            self.service.store.gone(packet["worker"])
        elif op == "expire":
            self.service.durable_opens.expire(time.time())
        elif op == "reload":
            with contextlib.suppress(ConfigError):  # the listener has said what is wrong
                config = self._reload()
                self.service.reload(config)
                logs.set_level(config.general.log_level)

    def _answer(self, identity: int, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        for start in range(0, len(text), PIECE):
            head = {"op": "answer", "id": identity, "more": start + PIECE < len(text)}
            if self.link is not None:
                self.link.send(head, text[start : start + PIECE])

    def _take_over(self, packet: dict[str, Any], raw: bytes, sock: socket.socket | None) -> None:
        """The listener knows nothing of it."""
        self._stay()
        passing.take_over(self.service, self._dispatcher, packet, raw, sock)

    def _admit(self, packet: dict[str, Any], raw: bytes, sock: socket.socket | None) -> None:
        self._served += 1
        self._stay()
        admission.admit(self.service, self._dispatcher, packet, raw, sock)

    def _stay(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_idle(self) -> None:
        if self.link is None or self.link.closed:
            self._finish()
            return
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(IDLE_LINGER, self._say_idle)

    def _say_idle(self) -> None:
        self._timer = None
        if self.link is not None and not self.service.connections:
            self.link.send({"op": "idle", "served": self._served})

    def _on_parked(self, seconds: float) -> None:
        """The listener looks after it: we may have ended by then."""
        if self.link is not None and not self.link.closed:
            self.link.send({"op": "parked", "seconds": seconds})

    def _on_listener_gone(self) -> None:
        if not self.service.connections:
            self._finish()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Take over the link that the listener left open, and serve."""
    parser = argparse.ArgumentParser(prog="smbserver.worker")
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--server-guid", type=bytes.fromhex, default=None)
    parser.add_argument("--configfile")
    parser.add_argument("--option", action="append", default=[])
    parsed = parser.parse_args(arguments)
    config = load(parsed.configfile, parsed.option)
    logs.start(config.general.log_level)
    _prepare_process()
    store = Store(parsed.worker, config.store_directory, config.state_directory)
    if not store.presence.announce(parsed.worker):
        log.error("another process is worker %d", parsed.worker)
        return 1
    service = Service(config, store, parsed.server_guid)
    sock = socket.socket(fileno=parsed.link)
    asyncio.run(_serve(service, sock, lambda: load(parsed.configfile, parsed.option)))
    return 0


def _prepare_process() -> None:
    acceptor.initial_token()
    # Permissions of new files are decided by the share's masks alone.
    os.umask(0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Ctrl-C reaches the whole group; the listener decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _serve(service: Service, sock: socket.socket, reload: Any) -> None:
    worker = Worker(service, reload)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run(sock)


if __name__ == "__main__":
    raise SystemExit(main())
