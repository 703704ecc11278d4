"""The control socket's client against a proxy that a test plays by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbdirect import control
from smbdirect.control import Proxy, ProxyError, ProxyUnavailable, default_control_path
from tests.effort import tries

CHANNEL = {
    "connection": 5,
    "fabric": "iwarp",
    "device": "iwarp",
    "role": "server",
    "local": ["192.0.2.1", 5445],
    "remote": ["192.0.2.2", 40000],
    "max_send_size": 8192,
    "read_depth": 16,
    "from_the_future": [],
}
PATIENCE = 10.0


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await story()

    asyncio.run(bounded())


class PlayedProxy:
    """The proxy's end of one control connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def request(self) -> dict[str, Any]:
        packet: dict[str, Any] = json.loads(await self._loop.sock_recv(self.sock, 65536))
        assert packet["version"] == 1
        return packet

    def send(self, fd: int = -1, /, **members: Any) -> None:
        packet = json.dumps({"version": 1, **members}).encode()
        socket.send_fds(self.sock, [packet], [fd] if fd >= 0 else [])

    async def answer(self, op: str, /, fd: int = -1, **result: Any) -> dict[str, Any]:
        packet = await self.request()
        assert packet["op"] == op
        self.send(fd, id=packet["id"], ok=True, result=result)
        return packet

    async def refuse(self, code: str, message: str) -> None:
        packet = await self.request()
        self.send(id=packet["id"], ok=False, error={"code": code, "message": message})


@contextlib.asynccontextmanager
async def playing() -> AsyncIterator[tuple[Proxy, PlayedProxy]]:
    with tempfile.TemporaryDirectory(prefix="control-") as folder:
        path = f"{folder}/control"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen()
            listener.setblocking(False)
            opening = asyncio.create_task(Proxy.open(path))
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        played = PlayedProxy(sock)
        await played.answer("hello", version=1, pid=1, fabrics=["iwarp"])
        proxy = await opening
        try:
            yield proxy, played
        finally:
            await proxy.close()
            sock.close()


def ends() -> tuple[socket.socket, int]:
    ours, theirs = socket.socketpair()
    return ours, theirs.detach()


def test_listen_accept_and_close() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            listening = asyncio.create_task(proxy.listen("192.0.2.1", 0))
            packet = await played.answer("listen", listener=3, address="192.0.2.1", port=777)
            assert packet == {
                "version": 1, "id": 2, "op": "listen", "address": "192.0.2.1", "port": 0
            }  # fmt: skip
            ours, fd = ends()
            played.send(fd, event="channel", listener=3, channel=CHANNEL)  # before anybody listens
            os.close(fd)
            listener = await listening
            assert listener.port == 777
            sock, facts = await listener.accept()
            assert (facts.connection, facts.read_depth, facts.transport) == (5, 16, "rdma")
            assert not os.get_inheritable(sock.fileno())
            sock.sendall(b"x")
            assert ours.recv(1) == b"x"
            closing = asyncio.create_task(listener.close())
            assert (await played.answer("unlisten"))["listener"] == 3
            await closing
            sock.close()
            ours.close()

    run(story)


def test_a_listener_learns_where_it_is_reached() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            listening = asyncio.create_task(proxy.listen("0.0.0.0", 445, "verbs"))
            answer: dict[str, Any] = {"listener": 3, "address": "0.0.0.0", "port": 445}
            await played.answer("listen", **answer, addresses=["10.0.0.1"])
            listener = await listening
            assert listener.addresses == ("10.0.0.1",)
            changed = asyncio.Event()
            listener.on_addresses = changed.set
            played.send(event="addresses", listener=9, addresses=["10.0.0.9"])
            played.send(event="addresses", listener=3, addresses=[])
            await changed.wait()
            assert listener.addresses == ()

    run(story)


def test_connect_gives_the_channel_that_comes_with_the_answer() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            connecting = asyncio.create_task(proxy.connect("192.0.2.2", 5445, "iwarp"))
            ours, fd = ends()
            packet = await played.answer("connect", fd, channel=CHANNEL)
            os.close(fd)
            assert (packet["address"], packet["port"], packet["fabric"]) == (
                "192.0.2.2",
                5445,
                "iwarp",
            )
            sock, _ = await connecting
            sock.close()
            assert ours.recv(1) == b""
            ours.close()

    run(story)


def test_refusals_have_code_and_message() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            connecting = asyncio.create_task(proxy.connect("192.0.2.2", 5445))
            await played.refuse("ETIMEDOUT", "nobody answered")
            with pytest.raises(ProxyError, match="nobody answered") as caught:
                await connecting
            assert caught.value.code == "ETIMEDOUT"

    run(story)


def test_answers_in_another_order_find_their_questions() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            first = asyncio.create_task(proxy.status())
            second = asyncio.create_task(proxy.close_connection(9))
            one, two = await played.request(), await played.request()
            played.send(id=two["id"], ok=True, result={})
            await second
            played.send(id=one["id"], ok=True, result={"connections": [], "more": False})
            assert (await first)["more"] is False

    run(story)


def test_status_asks_until_there_is_no_more() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            asking = asyncio.create_task(proxy.status())
            await played.answer("status", connections=[{"connection": 4}], more=True, totals={})
            second = await played.answer("status", connections=[{"connection": 6}], more=False)
            assert second["after"] == 4
            status = await asking
            assert [one["connection"] for one in status["connections"]] == [4, 6]

    run(story)


def test_channels_that_nobody_wants_are_closed() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            connecting = asyncio.create_task(proxy.connect("192.0.2.2", 5445))
            packet = await played.request()
            connecting.cancel()
            for members in (
                {"id": packet["id"], "ok": True, "result": {"channel": CHANNEL}},
                {"event": "channel", "listener": 99, "channel": CHANNEL},
                {"event": "something new"},
            ):
                ours, fd = ends()
                played.send(fd, **members)
                os.close(fd)
                asking = asyncio.create_task(proxy.close_connection(1))
                await played.answer("close")
                await asking
                assert ours.recv(1) == b""
                ours.close()

    run(story)


def test_the_end_of_the_proxy_wakes_everybody() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            listening = asyncio.create_task(proxy.listen("192.0.2.1", 0))
            await played.answer("listen", listener=3, address="192.0.2.1", port=777)
            listener = await listening
            waiting = [
                asyncio.create_task(listener.accept()),
                asyncio.create_task(listener.accept()),
                asyncio.create_task(proxy.connect("192.0.2.2", 5445)),
            ]
            await played.request()
            played.sock.close()
            await proxy.wait_closed()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(end) for end in ends] == [ProxyUnavailable] * 3
            with pytest.raises(ProxyUnavailable):
                await proxy.status()

    run(story)


def test_after_drain_no_channels_come_but_those_that_came() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            listening = asyncio.create_task(proxy.listen("192.0.2.1", 0))
            await played.answer("listen", listener=3, address="192.0.2.1", port=777)
            listener = await listening
            ours, fd = ends()
            played.send(fd, event="channel", listener=3, channel=CHANNEL)
            os.close(fd)
            played.send(event="drain")
            sock, _ = await listener.accept()
            with pytest.raises(ProxyUnavailable, match="ending"):
                await listener.accept()
            with pytest.raises(ProxyUnavailable, match="ending"):
                await listener.accept()
            await listener.close()
            sock.close()
            ours.close()

    run(story)


def test_being_turned_away_is_told() -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            played.send(id=None, ok=False, error={"code": "EACCES", "message": "not you"})
            await proxy.wait_closed()
            assert "not you" in proxy.ending

    run(story)


@tries(80)
@given(
    st.one_of(
        st.binary(min_size=1, max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["id", "ok", "event", "listener", "channel", "result", "error"]
                    ),
                    inner,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_nothing_a_proxy_sends_makes_the_client_fail(packet: bytes) -> None:
    async def story() -> None:
        async with playing() as (proxy, played):
            failures: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, a: failures.append(a))
            played.sock.send(packet)
            played.sock.close()
            await proxy.wait_closed()
            assert not failures

    run(story)


def test_the_default_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert default_control_path() == "/run/rdmaproxy/control"
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_control_path() == "/run/user/1000/rdmaproxy/control"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_control_path() == "/tmp/rdmaproxy-1000/control"


def test_a_directory_of_somebody_else_in_tmp_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="control-", dir="/tmp") as folder:
        control._check_directory(f"{folder}/control")
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        with pytest.raises(ProxyUnavailable, match="not to us"):
            control._check_directory(f"{folder}/control")
    control._check_directory(f"{folder}/control")  # connect says that it is missing
