"""The command line of the daemon that owns RDMA. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

from rdmaproxy import adapters, devices, log
from rdmaproxy.adapters import Adapter
from rdmaproxy.config import Config, ConfigError, describe, load
from rdmaproxy.control import ControlUnavailable
from smbdirect.control import Proxy, ProxyError, ProxyUnavailable, default_control_path

UNITS = ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = parser().parse_args(arguments)
    try:
        return int(parsed.command(parsed))
    except (ConfigError, ControlUnavailable, ProxyError, ProxyUnavailable, OSError) as error:
        print(f"rdmaproxy: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(prog="rdmaproxy", description=__doc__)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--configfile", metavar="F", help="ini file with a section [global]")
    common.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a parameter, over the file's",
    )
    common.add_argument("--socket", metavar="PATH", help="the control socket")
    run = commands.add_parser("run", parents=[common], help="be the daemon, in the foreground")
    run.add_argument("-d", metavar="LEVEL", dest="level", help="log level, 0 to 10")
    run.set_defaults(command=_run)
    status = commands.add_parser("status", parents=[common], help="how a running daemon is")
    status.add_argument("-j", "--json", action="store_true", help="as one JSON object")
    status.set_defaults(command=_status)
    capture = commands.add_parser(
        "capture",
        parents=[common],
        help="all SMB Direct messages, for Wireshark, until Ctrl-C or SIGTERM",
    )
    capture.add_argument("-w", dest="file", metavar="FILE", default="-", help="pcapng; -: stdout")
    capture.set_defaults(command=_capture)
    listing = commands.add_parser("devices", help="what can be listened on here")
    listing.add_argument("-j", "--json", action="store_true", help="as one JSON object")
    listing.set_defaults(command=_devices)
    doctor = commands.add_parser(
        "doctor", parents=[common], help="does RDMA work here, and if not, why"
    )
    doctor.add_argument("client", metavar="ADDRESS", nargs="?", default="", help="of a client")
    doctor.add_argument("-j", "--json", action="store_true", help="as one JSON object")
    doctor.set_defaults(command=_doctor)
    parameters = commands.add_parser("parameters", help="all parameters, as an example file")
    parameters.set_defaults(command=_parameters)
    return whole


def _configuration(parsed: argparse.Namespace) -> tuple[Config, str]:
    config = load(parsed.configfile, parsed.option)
    return config, parsed.socket or config.control_socket or default_control_path()


def _run(parsed: argparse.Namespace) -> int:
    if parsed.level is not None:
        parsed.option.append(f"log level={parsed.level}")
    config, path = _configuration(parsed)
    log.start(config.log_level)
    from rdmaproxy.daemon import Daemon
    from rdmaproxy.engine import EngineError

    try:
        daemon = Daemon(config, path)
    except EngineError as error:
        raise ControlUnavailable(f"the engine cannot start: {error}") from error
    if config.metrics_endpoint is not None:
        from rdmaproxy import metrics

        metrics.serve(daemon.engine, config.metrics_endpoint)
    asyncio.run(daemon.run())
    return 0


def _status(parsed: argparse.Namespace) -> int:
    _, path = _configuration(parsed)
    status = asyncio.run(_ask(path))
    if parsed.json:
        print(json.dumps(status))
    else:
        print("\n".join(_table(status)))
    return 0


async def _ask(path: str) -> dict[str, Any]:
    proxy = await Proxy.open(path)
    try:
        status = await proxy.status()
        return {**status, "pid": proxy.hello["pid"], "fabrics": proxy.hello["fabrics"]}
    finally:
        await proxy.close()


def _capture(parsed: argparse.Namespace) -> int:
    _, path = _configuration(parsed)
    if parsed.file == "-" and sys.stdout.isatty():
        raise ControlUnavailable("a capture is nothing for a terminal; say -w FILE, or pipe it")
    with contextlib.ExitStack() as stack:
        file = sys.stdout.buffer
        if parsed.file != "-":
            file = stack.enter_context(open(parsed.file, "wb"))
        stack.enter_context(contextlib.suppress(asyncio.CancelledError, BrokenPipeError))
        asyncio.run(_receive_capture(path, file))
    return 0


async def _receive_capture(path: str, file: BinaryIO) -> None:
    """Until a signal cancels it; SIGINT too where whoever started it has it ignored, as shells do in the background."""
    task = asyncio.current_task()
    assert task is not None
    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    proxy = await Proxy.open(path)
    try:
        with await proxy.capture() as sock:
            sock.setblocking(False)
            while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
                file.write(data)
                file.flush()
    finally:
        await proxy.close()


def _devices(parsed: argparse.Namespace) -> int:
    fabrics, addresses = devices.fabrics(), devices.addresses()
    if parsed.json:
        shown = {"fabrics": [asdict(one) for one in fabrics]}
        shown["addresses"] = [asdict(one) for one in addresses]
        shown["adapters"] = [
            {**asdict(one), "limits": adapters.limits(one.device)} for one in adapters.adapters()
        ]
        print(json.dumps(shown))
        return 0
    for fabric in fabrics:
        print(f"fabric {fabric.name}, port {fabric.port}, devices: {', '.join(fabric.devices)}")
    for adapter in adapters.adapters():
        print("\n".join(_adapter_lines(adapter)))
    for one in addresses:
        speed = f", {one.speed // 1_000_000} Mbit/s" if one.speed else ""
        print(f"address {one.address}/{one.prefix} on {one.interface}, mtu {one.mtu}{speed}")
    return 0


def _adapter_lines(one: Adapter) -> list[str]:
    speed = f", {one.speed / 1e9:g} Gbit/s" if one.speed else ""
    interface = one.interface or "no interface"
    lines = [
        f"adapter {one.device}/{one.port}, {one.transport} over {interface}, {one.state}{speed}"
    ]
    lines += [
        f"  GID {gid.index} {gid.address} {gid.kind} {gid.interface}".rstrip() for gid in one.gids
    ]
    known = adapters.limits(one.device)
    said = ", ".join(f"{name} {value}" for name, value in known.items())
    return [*lines, f"  limits: {said or 'unknown: python3-pyverbs is not there, or refuses'}"]


def _doctor(parsed: argparse.Namespace) -> int:
    from rdmaproxy import doctor

    _, path = _configuration(parsed)
    checks = asyncio.run(doctor.examine(path, parsed.client))
    if parsed.json:
        print(json.dumps({"checks": [asdict(check) for check in checks]}))
    else:
        print("\n".join(doctor.lines(checks)))
    return int(any(check.verdict is doctor.Verdict.FAIL for check in checks))


def _parameters(parsed: argparse.Namespace) -> int:
    print(describe(), end="")
    return 0


def _table(status: dict[str, Any]) -> list[str]:
    totals = status["totals"]
    lines = [
        f"rdmaproxy, pid {status['pid']}, fabrics: {', '.join(status['fabrics'])}",
        f"{totals['connections']} connections ({totals['half_open']} negotiating),"
        f" {totals['listeners']} listeners, {totals['pools']} pools with"
        f" {_bytes(totals['pool_bytes'])}, {totals['regions']} registrations with"
        f" {_bytes(totals['registered_bytes'])}",
    ]
    lines += [
        f"listening on {_place((entry['address'], entry['port']))} ({entry['fabric']})"
        for entry in status["listeners"]
    ]
    if status["connections"]:
        lines += ["", *_columns(status["connections"])]
    counted = [f"{name} {count}" for name, count in status["counters"].items() if count]
    if counted:
        lines += ["", *counted]
    return lines


def _columns(connections: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            "No",
            "Role",
            "Local",
            "Remote",
            "Credits",
            "Sent",
            "Received",
            "RDMA out",
            "RDMA in",
            "Age",
        )
    ]
    rows += [
        (
            str(entry["connection"]),
            entry["role"],
            _place(entry["local"]),
            _place(entry["remote"]),
            f"{entry['send_credits']}/{entry['receive_credits']}",
            _bytes(entry["bytes_sent"]),
            _bytes(entry["bytes_received"]),
            _bytes(entry["rdma_written_bytes"]),
            _bytes(entry["rdma_read_bytes"]),
            f"{entry['age']:.0f}s",
        )
        for entry in connections
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _place(place: Sequence[Any]) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bytes(count: int) -> str:
    for size, unit in UNITS:
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)
