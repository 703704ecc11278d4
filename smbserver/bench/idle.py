"""What connections cost while nothing happens on them: CPU time and memory of the proxy."""

from __future__ import annotations

import asyncio
import time

from smbdirect.channel import Channel
from smbserver.bench.figures import MIB, Figure, figure
from smbserver.bench.processes import Watched, resident_bytes
from smbserver.bench.rdma import Pair

CHANNELS = 100
SETTLE = 0.5
"""Seconds for the last credits to be granted before anything is counted."""
USE = 3 * MIB
"""Bytes sent over each channel before it is idle: every posted receive was used once, 255 of 8 KiB."""


async def measure(pair: Pair, seconds: float) -> list[Figure]:
    """CPU time of both proxies per second with CHANNELS connections, and memory per connection."""
    before = resident_bytes(pair.listening_pid)
    channels: list[Channel] = []
    for _ in range(CHANNELS):
        channels += await pair.channels()
        await _use(*channels[-2:])
    await asyncio.sleep(SETTLE)
    memory = (resident_bytes(pair.listening_pid) - before) / CHANNELS / MIB
    proxies = Watched("near", pair.connecting_pid), Watched("far", pair.listening_pid)
    spent = -sum(proxy.cpu_seconds() for proxy in proxies)
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    spent += sum(proxy.cpu_seconds() for proxy in proxies)
    elapsed = time.perf_counter() - began
    for channel in channels:
        channel.close()
    return [
        figure(f"idle_cpu_{CHANNELS}_channels", "CPU s/s", [spent / elapsed]),
        figure("proxy_memory_per_idle_channel", "MiB", [memory]),
    ]


async def _use(connected: Channel, accepted: Channel) -> None:
    message = bytes(min(MIB, connected.facts.max_fragmented_send_size))
    for _ in range(0, USE, len(message)):
        connected.send(message)
        await accepted.receive()
