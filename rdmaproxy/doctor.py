"""Does RDMA work here, and if not, why: one check after another, each with a fact, a verdict and a remedy.

The checks build on each other and always come in the same order. What cannot be checked is skipped and says why; it is
never "ok". The exit code is 1 when a check failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from rdmaproxy import adapters, devices
from rdmaproxy.adapters import Adapter
from rdmaproxy.devices import Address
from smbdirect.channel import Channel
from smbdirect.channel_end import ChannelClosed, TransferFailed
from smbdirect.control import Proxy, ProxyError, ProxyUnavailable
from smbdirect.frames import Access
from smbdirect.pool import Pool

LOOP_SIZE = 64 << 10
"""Bytes read and written by the loop test."""
LOOP_TIME = 30.0
"""Seconds that the loop test may take on each address; an emulated machine needs a few."""
CAP_IPC_LOCK = 14
WANTED = {"max_qp_wr": 512, "max_cqe": 767, "max_sge": 1, "max_qp_init_rd_atom": 1, "max_mr": 64}
"""What one connection likes to have (`limits`): less is used, but costs speed; 64 registrations: a few workers."""


class Verdict(StrEnum):
    OK = "ok"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    fact: str
    verdict: Verdict
    remedy: str = ""


@dataclass(slots=True)
class Host:
    """What the checks look at; `proxy` and `status` are there when a daemon answers."""

    client: str = ""
    """The address of the client that is asked about."""
    adapters: list[Adapter] = field(default_factory=adapters.adapters)
    behind: list[tuple[Address, Adapter]] = field(default_factory=devices.rdma_adapters)
    proxy: Proxy | None = None
    why_no_proxy: str = ""
    status: dict[str, Any] = field(default_factory=dict)


async def examine(control: str, client: str) -> list[Check]:
    """All checks, in order."""
    host = Host(client)
    try:
        host.proxy = await Proxy.open(control)
        host.status = await host.proxy.status()
    except (ProxyUnavailable, ProxyError) as error:
        host.proxy, host.why_no_proxy = None, str(error)
    checks = [check_devices(host), check_memlock(host), check_limits(host)]
    checks += [check_listeners(host), check_interfaces(host), check_client(host)]
    checks.append(await check_loop(host))
    if host.proxy is not None:
        await host.proxy.close()
    return checks


def check_devices(host: Host) -> Check:
    name = "adapters"
    if not host.adapters:
        fact = "no RDMA adapter; SMB Direct is served by user-space iWARP over TCP"
        return Check(name, fact, Verdict.SKIPPED, "none needed, if that is what is meant")
    facts = "; ".join(_adapter_words(host, one) for one in host.adapters)
    active = [one for one in host.adapters if one.state == "ACTIVE"]
    if not active:
        return Check(name, facts, Verdict.FAIL, "bring link and subnet manager up")
    if not host.behind:
        remedy = "give the adapter's network interface an IP address, and bring it up"
        return Check(name, facts, Verdict.FAIL, remedy)
    verdict = Verdict.OK if len(active) == len(host.adapters) else Verdict.WARN
    return Check(name, facts, verdict, "" if verdict is Verdict.OK else "some ports are down")


def _adapter_words(host: Host, one: Adapter) -> str:
    places = [address.address for address, adapter in host.behind if adapter == one]
    speed = f" {one.speed / 1e9:g} Gb/s" if one.speed else ""
    return (
        f"{one.device}/{one.port} ({one.transport}{speed} over {one.interface or 'no interface'})"
        f" {one.state}, at {', '.join(places) or 'no address'}"
    )


def check_memlock(host: Host) -> Check:
    name = "memlock"
    if not host.behind:
        return Check(name, "user-space iWARP locks no memory", Verdict.SKIPPED)
    if host.proxy is None:
        return Check(name, host.why_no_proxy, Verdict.SKIPPED)
    pid = host.proxy.hello["pid"]
    try:
        limit, free = _memlock(Path(f"/proc/{pid}"))
    except (OSError, ValueError, StopIteration) as error:
        return Check(name, f"the limits of pid {pid} cannot be read: {error}", Verdict.SKIPPED)
    if limit < 0 or free:
        words = "unlimited" if limit < 0 else "irrelevant: the proxy has CAP_IPC_LOCK"
        return Check(name, f"limit of pid {pid}: {words}", Verdict.OK)
    used, most = host.status["totals"]["registered_bytes"], host.status["totals"]["memory_limit"]
    fact = f"limit {limit >> 20} MiB, {used >> 20} MiB registered, memory limit {most >> 20} MiB"
    if limit < most or not most:
        remedy = "LimitMEMLOCK=infinity in the unit (ulimit -l), or a smaller `memory limit`"
        return Check(name, fact, Verdict.FAIL, remedy)
    return Check(name, fact, Verdict.OK)


def _memlock(process: Path) -> tuple[int, bool]:
    """Bytes that the process may lock, -1: all; and whether it need not care."""
    lines = (process / "limits").read_text().splitlines()
    soft = next(line for line in lines if line.startswith("Max locked memory")).split()[3]
    status = (process / "status").read_text().splitlines()
    effective = next(line for line in status if line.startswith("CapEff:")).split()[1]
    return -1 if soft == "unlimited" else int(soft), bool(int(effective, 16) >> CAP_IPC_LOCK & 1)


def check_limits(host: Host) -> Check:
    name = "device limits"
    if not host.behind:
        return Check(name, "no adapter is behind an address", Verdict.SKIPPED)
    facts, poor, unknown = [], [], []
    for device in dict.fromkeys(adapter.device for _, adapter in host.behind):
        known = adapters.limits(device)
        if not known:
            unknown.append(device)
            continue
        facts.append(f"{device}: " + ", ".join(f"{key} {known[key]}" for key in WANTED))
        poor += [f"{device} {key}" for key, least in WANTED.items() if known[key] < least]
    if unknown:
        words = f"the limits of {', '.join(unknown)} cannot be asked for"
        return Check(name, words, Verdict.SKIPPED, "install python3-pyverbs; run it as root")
    if poor:
        remedy = f"few: {', '.join(poor)}; connections are made smaller, and slower"
        return Check(name, "; ".join(facts), Verdict.WARN, remedy)
    return Check(name, "; ".join(facts), Verdict.OK)


def check_listeners(host: Host) -> Check:
    name = "listeners"
    if host.proxy is None:
        return Check(name, host.why_no_proxy, Verdict.FAIL, "start it: rdmaproxy run")
    there = {(one["fabric"], one["port"]) for one in host.status["listeners"]}
    fact = ", ".join(f"{fabric} port {port}" for fabric, port in sorted(there)) or "none"
    if not there:
        remedy = "a server listens through the proxy: is smbserver running, with smbdirect in `server smb transports`?"
        return Check(name, fact, Verdict.FAIL, remedy)
    ports = {adapter.smb_direct_port for _, adapter in host.behind}
    missing = sorted(port for port in ports if ("verbs", port) not in there)
    if missing:
        remedy = f"clients look at port {missing[0]}: add smbdirect:{missing[0]} to `server smb transports`"
        return Check(name, fact, Verdict.WARN, remedy)
    return Check(name, fact, Verdict.OK)


def check_interfaces(host: Host) -> Check:
    """What clients can be told: the addresses that they may use for RDMA."""
    name = "interface answer"
    if host.proxy is None:
        return Check(name, host.why_no_proxy, Verdict.SKIPPED)
    reached = {
        address
        for one in host.status["listeners"]
        for address in devices.reached(one["fabric"], one["address"])
    }
    everywhere = reached & {"0.0.0.0", "::"}
    known = [one for one in devices.addresses() if one.interface != "lo"]
    rdma = [one for one in known if one.address in reached or everywhere]
    facts = [_interface_words(one, one in rdma) for one in known]
    fact = ", ".join(facts) or "no address but the loopback's"
    if not rdma:
        remedy = "no address is offered for RDMA: see the checks above"
        return Check(name, fact, Verdict.WARN, remedy)
    return Check(name, fact, Verdict.OK)


def _interface_words(one: Address, rdma: bool) -> str:
    speed = f" {one.speed / 1e9:g} Gb/s" if one.speed else ""
    return f"{one.interface} {one.address}{speed} {'RDMA' if rdma else 'no RDMA'}"


def check_client(host: Host) -> Check:
    name = f"client {host.client}".rstrip()
    if not host.client:
        return Check(name, "no client was named", Verdict.SKIPPED, "rdmaproxy doctor ADDRESS")
    if host.proxy is None:
        return Check(name, host.why_no_proxy, Verdict.SKIPPED)
    own = [one for one in host.status["connections"] if one["remote"][0] == host.client]
    if not own:
        remedy = (
            "is its edition one with SMB Direct, and switched on? Does it share a subnet with an address that is"
            " offered for RDMA? On Windows: Get-SmbMultichannelConnection"
        )
        return Check(name, "no RDMA connection from there", Verdict.WARN, remedy)
    moved = sum(one["rdma_written_bytes"] + one["rdma_read_bytes"] for one in own)
    fact = f"{len(own)} RDMA connections, {moved} bytes placed by RDMA"
    if not moved:
        remedy = "connected, but all payload is inline: signing or encryption is required, or nothing was read"
        return Check(name, fact, Verdict.WARN, remedy)
    return Check(name, fact, Verdict.OK)


async def check_loop(host: Host) -> Check:
    """Connects the proxy to itself, writes and reads, on every fabric that it has."""
    name = "loop test"
    if host.proxy is None:
        return Check(name, host.why_no_proxy, Verdict.SKIPPED)
    facts = []
    for fabric, address in _loops(host):
        begun = time.monotonic()
        try:
            async with asyncio.timeout(LOOP_TIME):
                await _loop(host.proxy, fabric, address)
        except (ProxyError, ProxyUnavailable, ChannelClosed, TransferFailed, OSError) as error:
            remedy = "the log of rdmaproxy says more; with an adapter, rping checks it without us"
            return Check(name, f"{fabric} at {address}: {error}", Verdict.FAIL, remedy)
        took = (time.monotonic() - begun) * 1000
        facts.append(
            f"{fabric} at {address}: {LOOP_SIZE >> 10} KiB written and read in {took:.0f} ms"
        )
    if not facts:
        return Check(name, "the proxy has no fabric here", Verdict.FAIL, "see the checks above")
    return Check(name, "; ".join(facts), Verdict.OK)


def _loops(host: Host) -> Iterator[tuple[str, str]]:
    assert host.proxy is not None
    fabrics = host.proxy.hello["fabrics"]
    if "verbs" in fabrics:
        yield from (("verbs", address.address) for address, _ in host.behind)
    if "iwarp" in fabrics:
        yield "iwarp", "127.0.0.1"


async def _loop(proxy: Proxy, fabric: str, address: str) -> None:
    listener = await proxy.listen(address, 0, fabric)
    client = Channel(*await proxy.connect(address, listener.port, fabric))
    server = Channel(*await listener.accept())
    pools = Pool(LOOP_SIZE), Pool(2 * LOOP_SIZE)
    try:
        await client.attach(pools[0])
        await server.attach(pools[1])
        token = await client.expose(pools[0].allocate(LOOP_SIZE), Access.READ | Access.WRITE)
        out, back = pools[1].allocate(LOOP_SIZE), pools[1].allocate(LOOP_SIZE)
        out.view[:] = bytes(range(256)) * (LOOP_SIZE // 256)
        await server.rdma_write(out, LOOP_SIZE, token.pack())
        await server.rdma_read(back, LOOP_SIZE, token.pack())
        if back.view != out.view:
            raise OSError("what was read is not what was written")
    finally:
        for channel in (client, server):
            channel.close()
            await channel.wait_closed()
        for pool in pools:
            pool.close()
        await listener.close()


def lines(checks: list[Check]) -> Iterator[str]:
    """The table that people read."""
    for number, check in enumerate(checks, 1):
        yield f"{number} {check.name:18} {check.verdict:8} {check.fact}"
        if check.remedy:
            yield f"{'':30}-> {check.remedy}"
