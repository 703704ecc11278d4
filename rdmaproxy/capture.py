"""What a capture is sent on: a socket whose other end the control client was given, until somebody closes it."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from rdmaproxy import log, pcapng
from rdmaproxy.packets import Packets

INTERVAL = 0.05
"""Seconds between two looks at what the engine has copied, which has room for 8 MiB."""
WAITING_MAX = 64 << 20
"""Bytes that wait for who reads; what comes beyond is lost."""


class Captured(Protocol):
    """The engine's part in it."""

    def start_capture(self) -> None: ...
    def stop_capture(self) -> None: ...
    def take_capture(self) -> tuple[bytes, int]: ...


class Capture:
    """One at a time; belongs to the loop in which it was made."""

    def __init__(self, engine: Captured, ended: Callable[[], None]) -> None:
        """Raises EngineError where one is under way already. `ended` is called when nobody reads any more."""
        engine.start_capture()
        self._engine = engine
        self._ended = ended
        self._sock, self.theirs = socket.socketpair()
        self._sock.setblocking(False)
        self._packets = Packets()
        self._waiting = deque([pcapng.beginning()])
        self._waiting_bytes = len(self._waiting[0])
        self._dropped = self._lost = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self.close)  # nothing is said there but the end
        self._timer = self._loop.call_soon(self._look)

    def close(self) -> None:
        """Ends it; what was captured and not read is lost."""
        if self._sock.fileno() < 0:
            return
        self._timer.cancel()
        self._engine.stop_capture()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        log.event("capture_ended", messages_lost=self._lost, packets_dropped=self._dropped)
        self._ended()

    def _look(self) -> None:
        records, self._lost = self._engine.take_capture()
        for packet in self._packets.of(records):
            if self._waiting_bytes > WAITING_MAX:
                self._dropped += 1
            else:
                self._waiting.append(packet)
                self._waiting_bytes += len(packet)
        try:
            while self._waiting:
                sent = self._sock.send(self._waiting[0])
                self._waiting_bytes -= sent
                rest = self._waiting.popleft()[sent:]
                if rest:
                    self._waiting.appendleft(rest)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._timer = self._loop.call_later(INTERVAL, self._look)
