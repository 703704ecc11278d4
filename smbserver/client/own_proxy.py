"""An rdmaproxy that a client starts for itself and stops at its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from typing import Self

from smbdirect.control import Proxy, ProxyUnavailable

START_DEADLINE = 20.0
"""Seconds until the proxy must answer on its control socket."""
STOP_DEADLINE = 15.0
"""Seconds from SIGTERM to SIGKILL; the proxy drains meanwhile."""
_RETRY = 0.02


class OwnProxy:
    """A proxy process and the control connection to it."""

    def __init__(self, process: asyncio.subprocess.Process, folder: str, proxy: Proxy) -> None:
        self.process = process
        self.proxy = proxy
        self.path = os.path.join(folder, "control")
        self._folder = folder

    @classmethod
    async def start(cls) -> Self:
        """Starts it in a folder of its own; ProxyUnavailable if it does not answer in time."""
        folder = tempfile.mkdtemp(prefix="smbclient-rdmaproxy-")
        path = os.path.join(folder, "control")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rdmaproxy", "run", "--socket", path),
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            proxy = await _wait_for(process, path)
        except BaseException:
            await _end(process)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(process, folder, proxy)

    async def stop(self) -> None:
        await self.proxy.close()
        await _end(self.process)
        shutil.rmtree(self._folder, ignore_errors=True)


async def _wait_for(process: asyncio.subprocess.Process, path: str) -> Proxy:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_DEADLINE
    while True:
        try:
            return await Proxy.open(path)
        except ProxyUnavailable:
            if process.returncode is not None:
                raise ProxyUnavailable(
                    f"rdmaproxy ended at once with code {process.returncode}"
                ) from None
            if loop.time() > deadline:
                raise
        await asyncio.sleep(_RETRY)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_DEADLINE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
