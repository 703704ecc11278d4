"""`smbserver run`: listener, workers, proxy and control socket under one roof, until a signal ends them."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from smbserver.config import Config, ConfigError
from smbserver.control import ControlSocket, Operation
from smbserver.listener import Listener, addresses, transports
from smbserver.rdma_listener import RdmaListener
from smbserver.routing import Routes
from smbserver.store import Store

log = logging.getLogger(__name__)


class Daemon:
    """The listening process."""

    def __init__(
        self, config: Config, options: Sequence[str], reload: Callable[[], Config]
    ) -> None:
        self._config = config
        self._reload = reload
        guid = uuid.uuid4().bytes
        self._store = Store(0, config.store_directory, config.state_directory)
        self._routes = Routes(options, guid, self._store)
        self._listener = Listener(config, self._routes, guid)
        self._rdma = RdmaListener(
            self._listener,
            addresses(config),
            transports(config),
            proxy_path=config.general.rdma_proxy_socket,
            own_path=config.run_directory / "rdmaproxy",
            announce=self._routes.announce_rdma,
        )
        operations: dict[str, Operation] = {
            "status": self._status,
            "reload": self._reload_operation,
        }
        self._control = ControlSocket(config.control_path, operations)
        _say(config)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reread)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        await self._control.start()
        try:
            hosts = addresses(self._config)
            ports = [port for kind, port in transports(self._config) if kind in ("tcp", "nbt")]
            self._routes.forget_the_dead()
            self._routes.prepare()
            self._listener.listen([(host, port) for port in ports for host in hosts])
            self._rdma.start()
            log.info("listening on %s", ", ".join(self._tcp()))
            await stop.wait()
        finally:
            await self._listener.close()
            await self._routes.stop()
            self._store.close()
            await self._rdma.close()
            await self._control.close()

    def _tcp(self) -> list[str]:
        names = (sock.getsockname() for sock in self._listener.sockets)
        return [f"{name[0]} port {name[1]}" for name in names]

    async def _status(self) -> dict[str, Any]:
        workers = await self._routes.status()
        return {
            "pid": os.getpid(),
            "proxy_pid": self._rdma.proxy_pid,
            "listening": self._tcp(),
            "rdma": ", ".join(f"{host} port {port}" for host, port in self._rdma.listening),
            "refused": self._listener.refused,
            "workers": [
                {key: value for key, value in worker.items() if key != "sessions"}
                for worker in workers
            ],
            "sessions": [session for worker in workers for session in worker["sessions"]],
        }

    async def _reload_operation(self) -> dict[str, Any]:
        self._reread()
        return {}

    def _reread(self) -> None:
        """Take the configuration file as it is now. Addresses and ports stay as they are until a restart."""
        try:
            config = self._reload()
        except ConfigError as error:
            log.error("the configuration stays as it was: %s", error)
            return
        self._config = self._listener.config = config
        _say(config)
        self._routes.tell({"op": "reload"})
        log.info("read the configuration again")


def _say(config: Config) -> None:
    """What in the configuration has no effect, once for all processes."""
    for sentence in config.warnings:
        log.warning("%s", sentence)
    if config.without_effect:
        log.info("accepted without effect: %s", ", ".join(config.without_effect))
