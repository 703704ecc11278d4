"""The RDMA side of the listener: finds a proxy or starts one, listens through it, and begins again when it dies.

TCP does not depend on any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from smbdirect.control import (
    Proxy,
    ProxyError,
    ProxyListener,
    ProxyUnavailable,
    default_control_path,
)
from smbserver.listener import Listener

log = logging.getLogger(__name__)

FIRST_DELAY, LAST_DELAY = 0.5, 30.0
"""Seconds between two attempts to reach or start a proxy; doubled after each."""

START_DEADLINE = 60.0
"""Seconds that a proxy of our own has to answer; an emulated machine needs 20. One that ends is noticed at once."""

POLL_INTERVAL = 0.05
"""Seconds between two looks at whether it answers."""

STOP_DEADLINE = 10.0
"""Seconds that a proxy of our own has to drain."""

FABRICS = {"smbdirect": "verbs", "smbdirect-iw": "iwarp"}
"""The fabric of each kind of transport."""


class RdmaListener:
    """Keeps listening through whatever proxy there is."""

    def __init__(
        self,
        listener: Listener,
        addresses: Sequence[str],
        transports: Sequence[tuple[str, int]],
        *,
        proxy_path: str,
        own_path: Path,
        announce: Callable[[Sequence[str]], None],
    ) -> None:
        self._listener = listener
        self._addresses = addresses
        self._transports = [one for one in transports if one[0] in FABRICS]
        self._path = proxy_path
        self._own_path = Path(proxy_path) if proxy_path else own_path
        self._announce = announce
        self._proxy: Proxy | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self.listening: list[tuple[str, int]] = []
        self.proxy_pid: int | None = None
        """Of the proxy that is used now; None: there is none."""

    def start(self) -> None:
        """Begin, if the configuration wants RDMA at all."""
        if self._transports:
            self._task = asyncio.get_running_loop().create_task(self._keep_listening())

    async def close(self) -> None:
        """Stop listening, and end the proxy if it is ours."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def connections(self) -> dict[int, dict[str, Any]]:
        """What the proxy tells of its connections, by number; nothing if there is no proxy."""
        if self._proxy is None:
            return {}
        with contextlib.suppress(ProxyUnavailable, ProxyError):
            told = await self._proxy.status()
            return {one["connection"]: one for one in told["connections"]}
        return {}

    async def _keep_listening(self) -> None:
        delay = FIRST_DELAY
        while True:
            try:
                proxy = await self._reach()
            except (ProxyUnavailable, OSError) as error:
                log.warning("no RDMA for now: %s", error)
            else:
                if await self._serve(proxy):
                    delay = FIRST_DELAY
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_DELAY)

    async def _reach(self) -> Proxy:
        """A proxy that runs already, or one of our own."""
        paths = [self._path or default_control_path(), str(self._own_path)]
        for path in dict.fromkeys(paths):
            with contextlib.suppress(ProxyUnavailable):
                return await Proxy.open(path)
        self._start_own()
        try:
            return await asyncio.wait_for(self._reach_own(), START_DEADLINE)
        except TimeoutError:
            words = f"an rdmaproxy of our own did not answer within {START_DEADLINE:.0f} s"
            raise ProxyUnavailable(words) from None

    async def _reach_own(self) -> Proxy:
        while True:
            with contextlib.suppress(ProxyUnavailable):
                return await Proxy.open(str(self._own_path))
            if self._process is None or self._process.poll() is not None:
                raise ProxyUnavailable("an rdmaproxy of our own ended as soon as it began")
            await asyncio.sleep(POLL_INTERVAL)

    def _start_own(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._process = None
        self._own_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "rdmaproxy", "run"]
        command += ["--option", f"control socket={self._own_path}"]
        # A session of its own: Ctrl-C must not end it before the sessions over it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, env=os.environ
        )
        log.info("started an rdmaproxy of our own, pid %d", self._process.pid)

    async def _serve(self, proxy: Proxy) -> bool:
        """Accept channels until the proxy is gone; False if it could not listen anywhere."""
        listeners: list[ProxyListener] = []
        self._proxy, self.proxy_pid = proxy, proxy.hello.get("pid")
        tasks = [
            asyncio.create_task(self._listen_and_accept(proxy, *endpoint, listeners))
            for endpoint in self._wanted(proxy)
        ]
        try:
            await proxy.wait_closed()
        finally:
            for task in tasks:
                task.cancel()
            self._proxy, self.listening, self.proxy_pid = None, [], None
            self._announce([])
            with contextlib.suppress(ProxyUnavailable, ProxyError, OSError):
                await proxy.close()
        log.warning("the proxy is gone; sessions go on over TCP")
        return bool(listeners)

    def _wanted(self, proxy: Proxy) -> list[tuple[str, int, str]]:
        """Address, port and fabric of what the configuration names, where the proxy has the fabric."""
        fabrics = proxy.hello.get("fabrics", ())
        return [
            (address, port, FABRICS[kind])
            for kind, port in self._transports
            if FABRICS[kind] in fabrics
            for address in self._addresses
        ]

    async def _listen_and_accept(
        self, proxy: Proxy, address: str, port: int, fabric: str, listeners: list[ProxyListener]
    ) -> None:
        """An address without an adapter may get one: what is refused is asked for again."""
        delay, said = FIRST_DELAY, ""
        while True:
            try:
                listener = await proxy.listen(address, port, fabric)
                break
            except ProxyUnavailable as error:
                log.warning("the proxy went away: %s", error)
                return
            except ProxyError as error:
                if error.message != said:
                    log.warning("no RDMA on %s port %d: %s", address, port, error.message)
                said = error.message
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_DELAY)
        listeners.append(listener)
        self.listening = [(one.address, one.port) for one in listeners]
        listener.on_addresses = lambda: self._announce_all(listeners)
        self._announce_all(listeners)
        await self._accept(listener)

    def _announce_all(self, listeners: Sequence[ProxyListener]) -> None:
        self._announce([address for one in listeners for address in one.addresses])

    async def _accept(self, listener: ProxyListener) -> None:
        with contextlib.suppress(ProxyUnavailable):
            while True:
                sock, facts = await listener.accept()
                self._listener.admit(sock, facts)
