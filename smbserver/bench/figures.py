"""A figure: the median of its rounds, their spread, and its ratio to the two yardsticks."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

MIB = 1 << 20
GIB = 1 << 30

RAW_STREAM = "raw_tcp_stream"


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    """The median of the rounds."""
    unit: str
    low: float
    high: float
    ratio_to_raw: float | None = None
    """To `raw_tcp_stream` of the same run; None where the two are not of one kind."""
    ratio_to_smbd: float | None = None
    """To the same work done by smbd on TCP in the same run."""


def figure(name: str, unit: str, samples: Sequence[float]) -> Figure:
    return Figure(name, statistics.median(samples), unit, min(samples), max(samples))


def ratio(value: float, reference: Figure | None) -> float | None:
    return value / reference.value if reference and reference.value else None


def with_ratios(figures: Sequence[Figure], smbd_of: Mapping[str, str]) -> list[Figure]:
    """`smbd_of`: name of a figure -> name of smbd's figure for the same work."""
    by_name = {each.name: each for each in figures}
    raw = by_name.get(RAW_STREAM)
    return [
        dataclasses.replace(
            each,
            ratio_to_raw=ratio(each.value, raw) if raw and each.unit == raw.unit else None,
            ratio_to_smbd=ratio(each.value, by_name.get(smbd_of.get(each.name, ""))),
        )
        for each in figures
    ]


def better_of(figures: Sequence[Figure], variants: Sequence[str], name: str) -> list[Figure]:
    """Of NAME_VARIANT_x the variant with the best x, under the name NAME_x; all others as they are.

    More is better, except for CPU time, which goes with the throughput that it was spent on.
    """
    prefixes = {variant: f"{name}_{variant}_" for variant in variants}
    best: dict[str, Figure] = {}
    for variant in variants:
        for each in figures:
            work = each.name.removeprefix(prefixes[variant])
            if work != each.name and "_cpu" not in work:
                best[work] = max(best.get(work, each), each, key=lambda one: one.value)
    chosen = {each.name for each in best.values()}
    kept = []
    for each in figures:
        prefix = next((one for one in prefixes.values() if each.name.startswith(one)), None)
        if prefix is None:
            kept.append(each)
        elif each.name.partition("_cpu")[0] in chosen:
            work = each.name.removeprefix(prefix)
            kept.append(dataclasses.replace(each, name=f"{name}_{work}"))
    return kept


def table(figures: Sequence[Figure]) -> str:
    """One line per figure, for people."""

    def cell(value: float | None) -> str:
        if value is None:
            return "-"
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

    rows = [("", "median", "unit", "low", "high", "of raw", "of smbd")]
    rows += [
        (
            each.name,
            cell(each.value),
            each.unit,
            cell(each.low),
            cell(each.high),
            cell(each.ratio_to_raw),
            cell(each.ratio_to_smbd),
        )
        for each in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column in (0, 2) else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
