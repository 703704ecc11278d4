"""One TCP stream on loopback, in C on both ends: what this machine can move at all.

`python -m smbserver.bench.raw PORT BYTES` is the sending process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

from smbserver.bench._raw import lib
from smbserver.bench.figures import MIB

HOST = "127.0.0.1"


class RawStreamFailed(Exception):
    """One of the two ends reported an error."""


def measure(size: int) -> float:
    """MiB/s of `size` bytes from another process to this one."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "smbserver.bench.raw", str(port), str(size)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL):
            stream, _ = listener.accept()
            with stream:
                began = time.perf_counter()
                moved = lib.raw_receive(stream.fileno())
                seconds = time.perf_counter() - began
    if moved != size:
        words = os.strerror(-moved) if moved < 0 else f"{moved} of {size} bytes arrived"
        raise RawStreamFailed(f"raw TCP stream: {words}")
    return float(size / MIB / seconds)


def send(port: int, size: int) -> int:
    with socket.create_connection((HOST, port)) as stream:
        return int(lib.raw_send(stream.fileno(), size) != size)


if __name__ == "__main__":
    sys.exit(send(int(sys.argv[1]), int(sys.argv[2])))
