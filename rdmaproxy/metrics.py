"""The engine's totals and counters for Prometheus; served over HTTP only where the configuration asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rdmaproxy.engine import Connection, EngineError

if TYPE_CHECKING:
    from rdmaproxy.daemon import EngineLike

PREFIX = "smbdirect_"
STALLS = ("send_credit", "send_queue", "read_depth", "unconsumed")
"""What a connection may have to wait for; the counters are smbd_stalls_NAME."""


class EngineCollector(Collector):
    """Reads the engine when it is asked; its functions may be called from the HTTP server's thread."""

    def __init__(self, engine: EngineLike) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        try:
            totals, counters = self._engine.totals(), self._engine.counters()
        except EngineError:
            return  # stopped meanwhile
        yield from _gauges(totals)
        yield _stalls(counters)
        for name, value in counters.items():
            if not name.startswith("smbd_stalls_"):
                yield CounterMetricFamily(PREFIX + name, name.replace("_", " "), value=value)
        yield from _moved(self._connections())

    def _connections(self) -> Iterator[Connection]:
        after = 0
        while page := self._engine.connections(after):
            yield from page
            after = page[-1].connection


def _gauges(totals: Any) -> Iterator[Metric]:
    connections = GaugeMetricFamily(
        PREFIX + "connections", "Connections by state", labels=["state"]
    )
    connections.add_metric(["negotiating"], totals.half_open)
    connections.add_metric(["established"], totals.connections - totals.half_open)
    yield connections
    for name, meaning in (
        ("listeners", "Addresses listened on"),
        ("pools", "Workers' pools that are mapped"),
        ("pool_bytes", "Bytes of them"),
        ("memory_limit", "Limit of that in bytes, 0: none"),
        ("regions", "Registrations of memory with a device"),
        ("registered_bytes", "Bytes of them"),
    ):
        yield GaugeMetricFamily(PREFIX + name, meaning, value=getattr(totals, name))
    yield CounterMetricFamily(PREFIX + "cq_wakeups", "Turns of the loop", value=totals.wakeups)
    yield CounterMetricFamily(
        PREFIX + "loop_cpu_seconds", "CPU time of the loop's thread", value=totals.loop_cpu_ns / 1e9
    )


def _stalls(counters: dict[str, int]) -> Metric:
    stalls = CounterMetricFamily(PREFIX + "stalls", "Waits by what was short", labels=["reason"])
    for reason in STALLS:
        stalls.add_metric([reason], counters.get(f"smbd_stalls_{reason}", 0))
    return stalls


def _moved(connections: Iterator[Connection]) -> Iterator[Metric]:
    """Of the connections that live now: gauges, since a connection takes its share along when it ends."""
    names = ("bytes_sent", "bytes_received", "rdma_written_bytes", "rdma_read_bytes")
    sums = dict.fromkeys((*names, "send_credits", "receive_credits", "queued_bytes"), 0)
    for connection in connections:
        for name in sums:
            sums[name] += getattr(connection, name)
    for name, value in sums.items():
        meaning = f"{name.replace('_', ' ')} of the connections that live now".capitalize()
        yield GaugeMetricFamily(PREFIX + "live_" + name, meaning, value=value)


def registry(engine: EngineLike) -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(EngineCollector(engine))
    return found


def serve(engine: EngineLike, endpoint: tuple[str, int]) -> None:
    """Starts the HTTP server's thread. OSError where the endpoint cannot be had."""
    start_http_server(endpoint[1], endpoint[0], registry(engine))
