"""Metrics: what Prometheus is shown, over HTTP only where it was asked for."""

from __future__ import annotations

import socket
import urllib.request

from prometheus_client import generate_latest

from rdmaproxy.metrics import registry
from tests.rdmaproxy.fake_engine import CONNECTION, FakeEngine
from tests.rdmaproxy.running import running


def test_totals_counters_and_stalls() -> None:
    engine = FakeEngine()
    engine.living = [CONNECTION, CONNECTION]
    engine.connections = (  # type: ignore[method-assign]
        lambda after=0, limit=64: [] if after else engine.living
    )
    shown = generate_latest(registry(engine)).decode()
    for line in (
        'smbdirect_connections{state="established"} 2.0',
        'smbdirect_connections{state="negotiating"} 0.0',
        'smbdirect_stalls_total{reason="send_credit"} 3.0',
        "smbdirect_channel_opened_total 0.0",
        "smbdirect_memory_limit 1.073741824e+09",
        "smbdirect_live_rdma_written_bytes 10.0",
    ):
        assert f"\n{line}\n" in shown
    engine.stop()


def test_over_http_where_it_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (
        running(f"metrics endpoint=127.0.0.1:{port}"),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer,
    ):
        assert b"smbdirect_listeners 0.0" in answer.read()
