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

from smbdirect.sd_daemon import listening_sockets, notify, notify_reloading
from smbserver import log as log_to
from smbserver.config import Config, ConfigError
from smbserver.control import ControlSocket, Operation, Refused
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
        self._passed = listening_sockets()
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
            announce=self._announce_rdma,
        )
        operations: dict[str, Operation] = {
            "status": self._status,
            "reload": self._reload_operation,
            "close-session": self._close,
            "close-file": self._close,
            "debug": self._debug,
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
            self._routes.forget_the_dead()
            self._routes.prepare()
            self._listen()
            self._rdma.start()
            log.info("listening on %s", ", ".join(self._tcp()))
            self._routes.on_change = self._notify_status
            notify("READY=1")
            self._notify_status()
            await stop.wait()
        finally:
            notify("STOPPING=1", "STATUS=ending sessions")
            await self._listener.close()
            await self._routes.stop()
            self._store.close()
            await self._rdma.close()
            await self._control.close()

    def _listen(self) -> None:
        """On what the service manager has opened for us, or else where the configuration says."""
        for sock in self._passed:
            self._listener.accept_from(sock)
        if not self._passed:
            hosts = addresses(self._config)
            ports = [port for kind, port in transports(self._config) if kind in ("tcp", "nbt")]
            self._listener.listen([(host, port) for port in ports for host in hosts])

    def _announce_rdma(self, where: Sequence[str]) -> None:
        self._routes.announce_rdma(where)
        self._notify_status()

    def _notify_status(self) -> None:
        rdma = f"RDMA on {len(self._rdma.listening)} addresses" if self._rdma.listening else "TCP"
        notify(f"STATUS={self._routes.clients} clients; {rdma}")

    def _tcp(self) -> list[str]:
        names = (sock.getsockname() for sock in self._listener.sockets)
        return [f"{name[0]} port {name[1]}" for name in names]

    async def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        workers = await self._routes.ask(op="status", files=bool(request.get("files")))
        sessions = [session for worker in workers for session in worker["sessions"]]
        await self._add_credits(sessions)
        return {
            "pid": os.getpid(),
            "proxy_pid": self._rdma.proxy_pid,
            "listening": self._tcp(),
            "rdma": ", ".join(f"{host} port {port}" for host, port in self._rdma.listening),
            "refused": self._listener.refused,
            "failed": self._listener.failed,
            "workers": [
                {key: value for key, value in worker.items() if key != "sessions"}
                for worker in workers
            ],
            "sessions": sessions,
        }

    async def _add_credits(self, sessions: list[dict[str, Any]]) -> None:
        """Only the proxy knows the credits of its connections ([MS-SMBD] 3.1.1.1)."""
        channels = [channel for session in sessions for channel in session["channels"]]
        rdma = any(channel["transport"] == "rdma" for channel in channels)
        known = await self._rdma.connections() if rdma else {}
        for channel in channels:
            found = known.get(channel["connection"])
            channel["credits"] = found and {
                "send": found["send_credits"],
                "receive": found["receive_credits"],
            }

    async def _close(self, request: dict[str, Any]) -> dict[str, Any]:
        """Close a session, or one of its files: by the worker that has it."""
        answers = await self._routes.ask(
            **{key: request[key] for key in request if key != "version"}
        )
        closed = sum(answer.get("closed", 0) for answer in answers)
        if not closed:
            raise Refused(
                f"there is no session {request['session']:#x}"
                + (f" with a file {request['file']:#x}" if "file" in request else "")
                + "; `smbserver status` lists what there is"
            )
        return {"closed": closed}

    async def _debug(self, request: dict[str, Any]) -> dict[str, Any]:
        level = str(request["level"])
        log_to.set_level(level)
        answers = await self._routes.ask(op="debug", level=level)
        return {"processes": 1 + len(answers)}

    async def _reload_operation(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            self._take(self._reload())
        except ConfigError as error:
            raise Refused(f"the configuration stays as it was: {error}") from error
        return {"warnings": list(self._config.warnings)}

    def _reread(self) -> None:
        """SIGHUP."""
        try:
            self._take(self._reload())
        except ConfigError as error:
            log.error("the configuration stays as it was: %s", error)

    def _take(self, config: Config) -> None:
        """Let a new configuration count. Addresses and ports stay as they are until a restart."""
        notify_reloading()
        self._config = self._listener.config = config
        log_to.set_level(config.general.log_level)
        _say(config)
        self._routes.tell({"op": "reload"})
        log.info("read the configuration again")
        notify("READY=1")


def _say(config: Config) -> None:
    """What in the configuration has no effect, once for all processes."""
    for sentence in config.warnings:
        log.warning("%s", sentence)
    if config.without_effect:
        log.info("accepted without effect: %s", ", ".join(config.without_effect))
