"""The control socket: who may come, what is answered, and what a client can do to others (nothing)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rdmaproxy import control
from rdmaproxy.config import load
from rdmaproxy.control import Allowed, ControlUnavailable, Credentials
from rdmaproxy.daemon import CONNECTS_MAX, LISTENERS_MAX, Daemon
from rdmaproxy.engine import ConnectFailed, EngineError
from smbdirect.close_reason import CloseReason
from smbdirect.control import Proxy, ProxyError, ProxyUnavailable
from tests.rdmaproxy.fake_engine import FakeEngine
from tests.rdmaproxy.running import run

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for the name of a socket."""
    with tempfile.TemporaryDirectory(prefix="control-") as name:
        yield Path(name)


@contextlib.asynccontextmanager
async def serving(path: Path, *options: str) -> AsyncIterator[tuple[Daemon, FakeEngine]]:
    """A daemon in this process, on an engine that is none."""
    engine = FakeEngine()
    daemon = Daemon(load(None, options), str(path), engine)
    started = asyncio.Event()
    task = asyncio.create_task(daemon.run(started.set))
    done, _ = await asyncio.wait(
        (task, asyncio.ensure_future(started.wait())), return_when=asyncio.FIRST_COMPLETED
    )
    if task in done:
        await task
    try:
        yield daemon, engine
    finally:
        daemon.drain("the test is over", 0.0)
        await task
        assert ("stop",) in engine.calls


class RawClient:
    """A client that sends what it likes."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.sock.connect(str(path))
        self._loop = asyncio.get_running_loop()

    async def ask(self, packet: bytes) -> dict[str, Any]:
        await self._loop.sock_sendall(self.sock, packet)
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        data = await self._loop.sock_recv(self.sock, control.PACKET_MAX)
        answer: dict[str, Any] = json.loads(data) if data else {}
        return answer


def request(op: str, number: object = 1, **members: object) -> bytes:
    return json.dumps({"version": 1, "id": number, "op": op, **members}).encode()


def story(
    path: Callable[[Path], Path], *options: str
) -> Callable[[Callable[..., Awaitable[None]]], Callable[[Path], None]]:
    """Runs a test's coroutine with a daemon on `path(folder)`."""

    def decorate(tell: Callable[..., Awaitable[None]]) -> Callable[[Path], None]:
        def test(folder: Path) -> None:
            async def body() -> None:
                async with serving(path(folder), *options) as (daemon, engine):
                    await tell(daemon, engine)

            run(body)

        test.__doc__ = tell.__doc__
        return test

    return decorate


with_daemon = story(lambda folder: folder / "sub" / "control")


# -- requests


@with_daemon
async def test_listening_hands_channels_to_who_listens(daemon: Daemon, engine: FakeEngine) -> None:
    proxy = await Proxy.open(daemon.path)
    assert proxy.hello == {"version": 1, "pid": os.getpid(), "fabrics": ["iwarp"]}
    listener = await proxy.listen("192.0.2.1", 0)
    assert (listener.address, listener.port) == ("192.0.2.1", 50000)
    engine.ready(listener=listener.listener)
    sock, facts = await listener.accept()
    assert (facts.connection, facts.remote, facts.read_depth) == (1, ("192.0.2.2", 40000), 32)
    assert facts.transport == "rdma"
    sock.sendall(b"ping")
    assert engine.peers[0].recv(4) == b"ping"
    sock.close()
    assert engine.peers[0].recv(1) == b""  # nobody else holds the worker's end
    await listener.close()
    assert ("unlisten", 1) in engine.calls
    with pytest.raises(ProxyUnavailable):
        await listener.accept()
    await proxy.close()


@with_daemon
async def test_connecting_answers_who_asked(daemon: Daemon, engine: FakeEngine) -> None:
    proxy = await Proxy.open(daemon.path)
    first = asyncio.create_task(proxy.connect("192.0.2.9", 5445))
    second = asyncio.create_task(proxy.connect("192.0.2.9", 5446))
    third = asyncio.create_task(proxy.connect("192.0.2.9", 5447))
    await proxy.status()
    assert [call[2:] for call in engine.calls if call[0] == "connect"] == [
        (5445, 1),
        (5446, 2),
        (5447, 3),
    ]
    engine.ready(request=2)
    engine.tell(ConnectFailed(1, CloseReason.TIMEOUT, "nobody there"))
    engine.tell(ConnectFailed(3, CloseReason.NEGOTIATION, "no common version"))
    sock, facts = await second
    assert facts.connection == 1
    sock.close()
    with pytest.raises(ProxyError, match="nobody there") as caught:
        await first
    assert caught.value.code == "ETIMEDOUT"
    with pytest.raises(ProxyError) as caught:
        await third
    assert caught.value.code == "EPROTO"
    await proxy.close()


@with_daemon
async def test_a_channel_nobody_waits_for_ends(daemon: Daemon, engine: FakeEngine) -> None:
    proxy = await Proxy.open(daemon.path)
    other = await Proxy.open(daemon.path)
    listener = await proxy.listen("192.0.2.1", 0)
    connecting = asyncio.create_task(proxy.connect("192.0.2.9", 5445))
    await proxy.status()
    connecting.cancel()
    await proxy.close()
    while ("unlisten", 1) not in engine.calls:
        await other.status()
    for about in ({"listener": listener.listener}, {"request": 1}):
        engine.ready(**about)
        await other.status()
        await other.status()
        assert engine.peers[-1].recv(1) == b""
    await other.close()


@with_daemon
async def test_refusals_of_the_engine_are_told(daemon: Daemon, engine: FakeEngine) -> None:
    proxy = await Proxy.open(daemon.path)
    engine.refusal = EngineError(errno.EADDRINUSE, "port 5445 is taken")
    for refused in (proxy.listen("192.0.2.1", 5445), proxy.connect("192.0.2.1", 5445)):
        with pytest.raises(ProxyError, match="port 5445 is taken") as caught:
            await refused
        assert caught.value.code == "EADDRINUSE"
    with pytest.raises(ProxyError) as caught:
        await proxy.close_connection(99)
    assert caught.value.code == "ENOENT"
    await proxy.close()


@with_daemon
async def test_status_comes_in_pages(daemon: Daemon, engine: FakeEngine) -> None:
    proxy = await Proxy.open(daemon.path)
    listener = await proxy.listen("192.0.2.1", 0)
    for _ in range(150):
        engine.ready(listener=listener.listener)
    raw = RawClient(Path(daemon.path))
    page = (await raw.ask(request("status")))["result"]
    assert len(page["connections"]) <= 64
    assert page["more"] is True
    status = await proxy.status()
    assert [one["connection"] for one in status["connections"]] == list(range(1, 151))
    assert status["listeners"] == [
        {"listener": 1, "fabric": "iwarp", "address": "192.0.2.1", "port": 50000}
    ]
    assert status["totals"]["connections"] == 150
    assert status["totals"]["control_clients"] == 2
    assert status["counters"]["channel_opened"] == 150
    raw.sock.close()
    await proxy.close()


@with_daemon
async def test_a_listener_is_its_owners_alone(daemon: Daemon, engine: FakeEngine) -> None:
    proxy = await Proxy.open(daemon.path)
    listener = await proxy.listen("192.0.2.1", 0)
    raw = RawClient(Path(daemon.path))
    answer = await raw.ask(request("unlisten", listener=listener.listener))
    assert answer["error"]["code"] == "ENOENT"
    assert listener.listener in engine.listening
    raw.sock.close()
    await proxy.close()


@with_daemon
async def test_close_and_drain(daemon: Daemon, engine: FakeEngine) -> None:
    proxy = await Proxy.open(daemon.path)
    listener = await proxy.listen("192.0.2.1", 0)
    engine.ready(listener=listener.listener)
    sock, facts = await listener.accept()
    await proxy.close_connection(facts.connection)
    assert ("close", 1) in engine.calls
    await proxy.drain(0.5)
    with pytest.raises(ProxyUnavailable):
        await listener.accept()
    assert ("drain",) in engine.calls
    await proxy.wait_closed()
    sock.close()


# -- what clients get wrong


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"{", "EBADMSG"),
        (b"\xff\xfe", "EBADMSG"),
        (b"[1]", "EBADMSG"),
        (b"[" * 60000, "EBADMSG"),
        (b"1" * 60000, "EBADMSG"),
    ],
)
def test_garbage_is_answered_and_the_end(folder: Path, packet: bytes, code: str) -> None:
    @with_daemon
    async def garbage(daemon: Daemon, engine: FakeEngine) -> None:
        raw = RawClient(Path(daemon.path))
        answer = await raw.ask(packet)
        assert (answer["id"], answer["ok"], answer["error"]["code"]) == (None, False, code)
        assert await raw.answer() == {}
        raw.sock.close()
        await (await Proxy.open(daemon.path)).close()

    garbage(folder)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (json.dumps({"version": 2, "id": 7, "op": "hello"}).encode(), "EPROTONOSUPPORT"),
        (json.dumps({"id": 7, "op": "hello"}).encode(), "EPROTONOSUPPORT"),
        (request("format", 7), "EOPNOTSUPP"),
        (json.dumps({"version": 1, "id": 7, "op": ["hello"]}).encode(), "EOPNOTSUPP"),
        (request("listen", 7), "EINVAL"),
        (request("listen", 7, address="::1", port=65536), "EINVAL"),
        (request("listen", 7, address="::1", port=True), "EINVAL"),
        (request("listen", 7, address="a\0b", port=1), "EINVAL"),
        (request("listen", 7, address="::1", port=1, fabric=3), "EINVAL"),
        (request("connect", 7, address=5, port=1), "EINVAL"),
        (request("unlisten", 7, listener="x"), "EINVAL"),
        (request("unlisten", 7, listener=5), "ENOENT"),
        (request("close", 7, connection=-1), "EINVAL"),
        (request("close", 7, connection=1 << 64), "EINVAL"),
        (request("status", 7, after=1.5), "EINVAL"),
        (request("drain", 7, deadline="now"), "EINVAL"),
        (request("drain", 7, deadline=-1), "EINVAL"),
    ],
)
def test_mistakes_are_refused_and_the_connection_lives(
    folder: Path, packet: bytes, code: str
) -> None:
    @with_daemon
    async def mistake(daemon: Daemon, engine: FakeEngine) -> None:
        raw = RawClient(Path(daemon.path))
        answer = await raw.ask(packet)
        assert (answer["id"], answer["ok"], answer["error"]["code"]) == (7, False, code)
        assert answer["error"]["message"]
        assert (await raw.ask(request("hello", "again")))["id"] == "again"
        raw.sock.close()

    mistake(folder)


@with_daemon
async def test_one_client_has_its_share_of_listeners_and_connects(
    daemon: Daemon, engine: FakeEngine
) -> None:
    proxy = await Proxy.open(daemon.path)
    for _ in range(LISTENERS_MAX):
        await proxy.listen("192.0.2.1", 0)
    with pytest.raises(ProxyError, match=f"{LISTENERS_MAX} listeners"):
        await proxy.listen("192.0.2.1", 0)
    pending = [asyncio.create_task(proxy.connect("192.0.2.9", 5445)) for _ in range(CONNECTS_MAX)]
    await proxy.status()
    with pytest.raises(ProxyError, match=f"{CONNECTS_MAX} connects"):
        await proxy.connect("192.0.2.9", 5445)
    other = await Proxy.open(daemon.path)
    await other.listen("192.0.2.1", 0)
    await proxy.close()
    await asyncio.gather(*pending, return_exceptions=True)
    await other.close()


@with_daemon
async def test_unknown_members_are_ignored(daemon: Daemon, engine: FakeEngine) -> None:
    raw = RawClient(Path(daemon.path))
    assert (await raw.ask(request("hello", 1, colour="red")))["ok"] is True
    raw.sock.close()


@with_daemon
async def test_who_does_not_read_is_disconnected(daemon: Daemon, engine: FakeEngine) -> None:
    other = await Proxy.open(daemon.path)
    raw = RawClient(Path(daemon.path))
    listening = await raw.ask(request("listen", address="192.0.2.1", port=0))
    for _ in range(40):
        for _ in range(50):
            engine.ready(listener=listening["result"]["listener"])
        await other.status()
        if ("unlisten", 1) in engine.calls:
            break
    descriptors = len(os.listdir("/proc/self/fd"))
    assert ("unlisten", 1) in engine.calls
    assert (await other.status())["totals"]["control_clients"] == 1
    raw.sock.close()
    assert len(os.listdir("/proc/self/fd")) < descriptors
    await other.close()


@with_daemon
async def test_descriptors_that_a_client_passes_are_not_kept(
    daemon: Daemon, engine: FakeEngine
) -> None:
    raw = RawClient(Path(daemon.path))
    await raw.ask(request("hello"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        socket.send_fds(raw.sock, [request("hello")], [raw.sock.fileno()] * 50)
        assert (await raw.answer())["ok"]
    assert len(os.listdir("/proc/self/fd")) == before
    raw.sock.close()


def test_too_many_clients_are_turned_away(folder: Path) -> None:
    @story(lambda folder: folder / "control", "control clients=2")
    async def crowd(daemon: Daemon, engine: FakeEngine) -> None:
        welcome = [await Proxy.open(daemon.path) for _ in range(2)]
        with pytest.raises(ProxyUnavailable, match="control clients"):
            await Proxy.open(daemon.path)
        assert (await welcome[0].status())["totals"]["control_refusals"] == 1
        for proxy in welcome:
            await proxy.close()

    crowd(folder)


# -- who may come


def test_allowed_are_root_ourselves_and_those_of_the_configuration() -> None:
    allowed = Allowed.of(["4242", "daemon"], ["4343"])
    assert Credentials(1, 0, 0) in allowed
    assert Credentials(1, os.geteuid(), 99) in allowed
    assert Credentials(1, 4242, 99) in allowed
    assert Credentials(1, 4444, 4343) in allowed
    assert Credentials(1, 4444, 99, frozenset({98, 4343})) in allowed
    assert Credentials(1, 4444, 99, frozenset({98})) not in allowed
    with pytest.raises(ControlUnavailable, match="no-such-user"):
        Allowed.of(["no-such-user"], [])


def test_credentials_are_the_kernels() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        peer = Credentials.of(left)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert peer.groups == frozenset(os.getgroups())


def test_a_stranger_is_refused_with_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Credentials(1, 4444, 4444)

    @with_daemon
    async def refused(daemon: Daemon, engine: FakeEngine) -> None:
        monkeypatch.setattr(Credentials, "of", lambda sock: stranger)
        with pytest.raises(ProxyUnavailable, match="user 4444 may not use the control socket"):
            await Proxy.open(daemon.path)

    refused(folder)


def test_only_root_and_the_proxys_own_user_capture(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = Credentials(1, 4444, 4444)

    @story(lambda folder: folder / "sub" / "control", "allow users=4444")
    async def refused(daemon: Daemon, engine: FakeEngine) -> None:
        own = await Proxy.open(daemon.path)
        monkeypatch.setattr(Credentials, "of", lambda sock: allowed)
        other = await Proxy.open(daemon.path)
        with pytest.raises(ProxyError, match="only root and the proxy's own user"):
            await other.capture()
        (await own.capture()).close()
        for proxy in (own, other):
            await proxy.close()

    refused(folder)


ASK = """
import socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
try:
    sock.send(b'{"version": 1, "id": 1, "op": "hello"}')
except BrokenPipeError:
    pass
while True:
    try:
        print(sock.recv(65536).decode())
        break
    except ConnectionResetError:
        pass
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_told_from_an_allowed_one(folder: Path) -> None:
    folder.chmod(0o755)

    @story(lambda folder: folder / "sub" / "control", "allow users=1")
    async def two_users(daemon: Daemon, engine: FakeEngine) -> None:
        answers = []
        for user in (1, NOBODY):
            process = await asyncio.create_subprocess_exec(
                shutil.which("python3", path="/usr/bin") or "python3",
                "-c",
                ASK,
                daemon.path,
                stdout=subprocess.PIPE,
                user=user,
                group=user,
                extra_groups=[],
            )
            output, _ = await process.communicate()
            answers.append(json.loads(output))
        assert answers[0]["ok"] is True
        assert answers[1]["error"]["code"] == "EACCES"

    two_users(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_allowed_others_the_directory_keeps_them_out(folder: Path) -> None:
    folder.chmod(0o755)

    @with_daemon
    async def locked(daemon: Daemon, engine: FakeEngine) -> None:
        assert Path(daemon.path).parent.stat().st_mode & 0o777 == 0o700
        assert Path(daemon.path).stat().st_mode & 0o777 == 0o600

    locked(folder)


# -- the socket's file


def test_what_a_dead_proxy_left_is_replaced(folder: Path) -> None:
    path = folder / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))

    @story(lambda folder: folder / "control")
    async def replaced(daemon: Daemon, engine: FakeEngine) -> None:
        await (await Proxy.open(daemon.path)).close()

    replaced(folder)
    assert not path.exists()


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_what_somebody_listens_on_is_left_alone(folder: Path, kind: socket.SocketKind) -> None:
    path = folder / "control"
    with socket.socket(socket.AF_UNIX, kind) as living:
        living.bind(str(path))
        living.listen()
        refused(folder, "listens on|in use")
    assert path.exists()


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    (folder / "control").write_text("precious")
    refused(folder, "no socket")
    assert (folder / "control").read_text() == "precious"


def test_two_proxies_do_not_share_a_path(folder: Path) -> None:
    @story(lambda folder: folder / "control")
    async def second(daemon: Daemon, engine: FakeEngine) -> None:
        with pytest.raises(ControlUnavailable, match="another rdmaproxy"):
            async with serving(Path(daemon.path)):
                pass
        await (await Proxy.open(daemon.path)).close()

    second(folder)


def test_a_directory_that_others_may_write_to_is_refused(folder: Path) -> None:
    folder.chmod(0o777)
    refused(folder, "others could replace")


def refused(folder: Path, words: str) -> None:
    async def body() -> None:
        with pytest.raises(ControlUnavailable, match=words):
            async with serving(folder / "control"):
                pass

    run(body)


def test_the_client_says_that_nobody_is_there(folder: Path) -> None:
    async def body() -> None:
        with pytest.raises(ProxyUnavailable, match="rdmaproxy run"):
            await Proxy.open(str(folder / "control"))

    run(body)
