"""The server's own control socket: one line of JSON asks, one answers. Mode 0600: the server's user and root only.

    {"version": 1, "op": "close-session", "session": 17}
    {"version": 1, "ok": true, "result": {"closed": 1}}     or     {"version": 1, "ok": false, "error": "..."}

docs/administration.md lists the operations and what they answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

VERSION = 1

MAX_REQUEST = 4096
"""Bytes of one request."""

DEADLINE = 10.0
"""Seconds that either side waits for the other."""

Operation = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Given the request; KeyError, TypeError and ValueError say that it is not understood, Refused why it is refused."""


class ControlUnavailable(Exception):
    """No server answers; the sentence says where it was looked for."""


class Refused(Exception):
    """An operation that cannot be carried out; the sentence says why."""


class ControlSocket:
    """The server's end."""

    def __init__(self, path: Path, operations: dict[str, Operation]) -> None:
        self._path = path
        self._operations = operations
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises ControlUnavailable if another server does already."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = socket.socket(socket.AF_UNIX)
        with probe, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            probe.connect(str(self._path))
            raise ControlUnavailable(f"a server runs already: it answers at {self._path}")
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, self._path, limit=MAX_REQUEST
            )
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening and take the socket away."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                request = json.loads(await reader.readline())
                operation = self._operations[request["op"]]
                answer = {"version": VERSION, "ok": True, "result": await operation(request)}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"version": VERSION, "ok": False, "error": f"not understood: {error!r}"}
        except Refused as error:
            answer = {"version": VERSION, "ok": False, "error": str(error)}
        except TimeoutError:
            answer = {"version": VERSION, "ok": False, "error": "it took too long"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()


def ask(path: Path, op: str, **arguments: Any) -> dict[str, Any]:
    """Ask a running server; its result. Raises ControlUnavailable or Refused."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        try:
            sock.connect(str(path))
            request = {"version": VERSION, "op": op, **arguments}
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as file:
                answer = json.loads(file.readline())
        except (OSError, ValueError) as error:
            raise ControlUnavailable(
                f"no server answers at {path}: {error}; start one with `smbserver run`"
            ) from error
    if not answer["ok"]:
        raise Refused(str(answer["error"]))
    result: dict[str, Any] = answer["result"]
    return result
