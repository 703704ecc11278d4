"""How `smbserver status` shows people what the server tells of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SESSION = ("SESSION", "USER", "CLIENT", "DIALECT", "SIGN", "ENCRYPT", "OPENS", "CHANNELS")
_CHANNEL = ("  CH", "TRANSPORT", "LOCAL <- REMOTE", "DEVICE", *("READ", "WRITE"), "CREDITS", "NOTE")
_RATES = (
    "  CH",
    "TRANSPORT",
    "LOCAL <- REMOTE",
    "DEVICE",
    *("READ/s", "WRITE/s"),
    "CREDITS",
    "NOTE",
)
_OPEN = ("SESSION", "FILE", "USER", "SHARE", "ACCESS", "SHARED", "CACHING", "LOCKS", "PATH")
_LOCK = ("SESSION", "FILE", "USER", "OFFSET", "LENGTH", "KIND", "PATH")


def sessions(status: Mapping[str, Any]) -> str:
    """One line per session, one per channel under it; the last column says why a session is without RDMA."""
    lines = []
    for session in status["sessions"]:
        lines += _align([_SESSION, _session_row(session)])
        channels = session["channels"]
        rates = any("read_rate" in channel for channel in channels)
        rows = [_channel_row(number, session, one) for number, one in enumerate(channels)]
        lines += [*_align([_RATES if rates else _CHANNEL, *rows]), ""]
    if not lines:
        lines = ["no sessions", ""]
    listening = ", ".join(status.get("listening", ())) or "nowhere"
    return "\n".join([*lines, f"listening on {listening}; rdma: {status.get('rdma') or 'none'}"])


def opens(status: Mapping[str, Any]) -> str:
    """One line per open file."""
    rows = [
        (
            session["session"],
            one["file"],
            session["user"],
            one["share"],
            one["granted_access"],
            one["share_access"] or "-",
            ("lease " if one["is_lease"] else "") + (one["caching"] or "-"),
            str(len(one["locks"])),
            one["path"] or ".",
        )
        for session in status["sessions"]
        for one in session["open_files"]
    ]
    return "\n".join(_align([_OPEN, *rows])) if rows else "no open files"


def locks(status: Mapping[str, Any]) -> str:
    """One line per byte-range lock."""
    rows = [
        (
            session["session"],
            one["file"],
            session["user"],
            str(lock["offset"]),
            str(lock["length"]),
            "exclusive" if lock["exclusive"] else "shared",
            f"{one['share']}/{one['path']}",
        )
        for session in status["sessions"]
        for one in session["open_files"]
        for lock in one["locks"]
    ]
    return "\n".join(_align([_LOCK, *rows])) if rows else "no locks"


def add_rates(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> None:
    """Bytes per second of each channel, from what it had moved at two times."""
    earlier = dict(_channels(before))
    for key, channel in _channels(now):
        base = earlier.get(key, channel)
        channel["read_rate"] = (_read(channel) - _read(base)) / seconds
        channel["write_rate"] = (_written(channel) - _written(base)) / seconds


def _channels(status: Mapping[str, Any]) -> Iterable[tuple[tuple[str, str], dict[str, Any]]]:
    for session in status["sessions"]:
        for channel in session["channels"]:
            yield (session["session"], channel["remote"]), channel


def _session_row(session: Mapping[str, Any]) -> tuple[str, ...]:
    channels = session["channels"]
    rdma = sum(channel["transport"] == "rdma" for channel in channels)
    required = "(req)" if session["signing_required"] else ""
    return (
        session["session"],
        session["user"],
        session["client"],
        session["dialect"],
        (session["signing"] + required) or "-",
        session["encryption"] if session["encryption_required"] else "-",
        str(session["opens"]),
        f"{len(channels)} ({rdma} rdma)",
    )


def _channel_row(
    number: int, session: Mapping[str, Any], channel: Mapping[str, Any]
) -> tuple[str, ...]:
    read, written = _read(channel), _written(channel)
    granted = channel.get("credits")
    return (
        f"  {number}",
        channel["transport"],
        f"{channel['local']} <- {channel['remote']}",
        channel["device"] or "-",
        _bytes(channel.get("read_rate", read)),
        _bytes(channel.get("write_rate", written)),
        f"{granted['send']}/{granted['receive']}" if granted else "-",
        _note(number, session, channel),
    )


def _note(number: int, session: Mapping[str, Any], channel: Mapping[str, Any]) -> str:
    why = str(session["why_not_rdma"])
    if channel["transport"] == "rdma":
        return why or ("placement on" if channel["placement"] else "no memory attached yet")
    has_rdma = any(one["transport"] == "rdma" for one in session["channels"])
    if has_rdma:
        return "control channel" if number == 0 else ""
    return why if number == 0 else ""


def _read(channel: Mapping[str, Any]) -> int:
    """What the client has got."""
    return int(channel["bytes_inline_sent"] + channel["bytes_rdma_written"])


def _written(channel: Mapping[str, Any]) -> int:
    """What the client has sent."""
    return int(channel["bytes_inline_received"] + channel["bytes_rdma_read"])


def _bytes(number: float) -> str:
    value, unit = float(number), ""
    for unit in ("", "K", "M", "G", "T"):
        if value < 1024 or unit == "T":
            break
        value /= 1024
    return f"{value:.0f}{unit}" if value >= 10 or not unit else f"{value:.1f}{unit}"


def _align(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
