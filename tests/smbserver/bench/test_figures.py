"""Medians, spreads, ratios, and the order in which rounds run."""

from __future__ import annotations

import asyncio
import os

from smbserver.bench import figures, processes, raw, rounds
from smbserver.bench.figures import MIB


def test_a_figure_is_the_median_with_its_spread() -> None:
    assert figures.figure("a", "MiB/s", [5.0, 1.0, 3.0]) == figures.Figure(
        "a", 3.0, "MiB/s", 1.0, 5.0
    )


def test_ratios_need_a_reference_of_the_same_kind() -> None:
    measured = [
        figures.figure(figures.RAW_STREAM, "MiB/s", [200.0]),
        figures.figure("smb_read_tcp_1m", "MiB/s", [100.0]),
        figures.figure("smbd_read_tcp_1m", "MiB/s", [50.0]),
        figures.figure("smb_read_tcp_4k", "1/s", [7.0]),
    ]
    smbd_of = {"smb_read_tcp_1m": "smbd_read_tcp_1m", "smb_read_tcp_4k": "smbd_read_tcp_4k"}
    ratios = {
        each.name: (each.ratio_to_raw, each.ratio_to_smbd)
        for each in figures.with_ratios(measured, smbd_of)
    }
    assert ratios == {
        figures.RAW_STREAM: (1.0, None),
        "smb_read_tcp_1m": (0.5, 2.0),
        "smbd_read_tcp_1m": (0.25, None),
        "smb_read_tcp_4k": (None, None),
    }


def test_rounds_are_interleaved() -> None:
    order = []

    def measurement(name: str) -> rounds.Measurement:
        async def run() -> float:
            order.append(name)
            return float(len(order))

        return rounds.Measurement(name, "1/s", run)

    measured = asyncio.run(rounds.run([measurement("a"), measurement("b")], 3))
    assert order == ["a", "b"] * 4
    assert [(each.name, each.value, each.low, each.high) for each in measured] == [
        ("a", 5.0, 3.0, 7.0),
        ("b", 6.0, 4.0, 8.0),
    ]


def test_cpu_time_of_a_server_is_per_gib() -> None:
    async def run() -> float:
        began = processes.Watched("me", os.getpid()).cpu_seconds()
        while processes.Watched("me", os.getpid()).cpu_seconds() < began + 0.05:
            pass
        return 1.0

    measurement = rounds.Measurement(
        "work", "MiB/s", run, 512 * MIB, (processes.Watched("me", os.getpid()),)
    )
    cpu = asyncio.run(rounds.run([measurement], 1))[1]
    assert cpu.name == "work_cpu"
    assert cpu.value >= 0.09


def test_memory_of_a_process() -> None:
    assert processes.resident_bytes(os.getpid()) > MIB


def test_the_raw_stream_moves_every_byte() -> None:
    assert raw.measure(8 * MIB) > 0


def test_the_better_variant_of_each_work_is_kept_with_its_cpu_time() -> None:
    measured = [
        figures.figure(name, "", [value])
        for name, value in (
            ("smb_read", 9.0),
            ("smbd_stock_read", 1.0),
            ("smbd_stock_read_cpu", 10.0),
            ("smbd_stock_write", 4.0),
            ("smbd_stock_write_cpu", 40.0),
            ("smbd_tuned_read", 2.0),
            ("smbd_tuned_read_cpu", 20.0),
            ("smbd_tuned_write", 3.0),
            ("smbd_tuned_write_cpu", 30.0),
        )
    ]
    kept = figures.better_of(measured, ("stock", "tuned"), "smbd")
    assert {each.name: each.value for each in kept} == {
        "smb_read": 9.0,
        "smbd_write": 4.0,
        "smbd_write_cpu": 40.0,
        "smbd_read": 2.0,
        "smbd_read_cpu": 20.0,
    }
