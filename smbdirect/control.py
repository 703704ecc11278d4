"""The client of a proxy's control socket (docs/channel.md section 2)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from array import array
from collections.abc import Callable
from typing import Any, Self

from smbdirect.channel_facts import ChannelFacts

VERSION = 1
PACKET_MAX = 65536
"""Bytes of one JSON object."""
DESCRIPTORS_MAX = 4
"""Descriptors taken with one packet; the proxy sends one."""
HELLO_DEADLINE = 10.0
"""Seconds from the connection to the proxy's answer."""
READ_BUDGET = 64
"""Packets taken in one wake-up, then others have a turn."""


class ProxyUnavailable(Exception):
    """No proxy answers on the control socket, or it went away."""


class ProxyError(Exception):
    """The proxy refused a request. `code` is the name of an errno, `message` a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


def default_control_path() -> str:
    """Where a proxy of this user listens if nothing else is said."""
    if os.getuid() == 0:
        return "/run/rdmaproxy/control"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "rdmaproxy", "control")
    return f"/tmp/rdmaproxy-{os.getuid()}/control"


class ProxyListener:
    """A port on which the proxy accepts connections for us; it ends with the control connection."""

    def __init__(self, proxy: Proxy, listener: int, address: str, port: int) -> None:
        self.listener = listener
        self.address = address
        self.port = port
        self.addresses: tuple[str, ...] = (address,)
        """Where it is reached: of 0.0.0.0 on verbs only the addresses that an adapter is behind."""
        self.on_addresses: Callable[[], None] | None = None
        """Called when `addresses` has changed."""
        self._proxy = proxy
        self._ready: asyncio.Queue[tuple[socket.socket, ChannelFacts] | None] = asyncio.Queue()

    async def accept(self) -> tuple[socket.socket, ChannelFacts]:
        """The next connection. ProxyUnavailable when no more will come."""
        ready = await self._ready.get()
        if ready is None:
            self._ready.put_nowait(None)  # for the next who asks
            raise ProxyUnavailable(self._proxy.ending or "the listener was closed")
        return ready

    async def close(self) -> None:
        """Ends the listener; channels that were not accepted end with it."""
        self._proxy._listeners.pop(self.listener, None)
        self._end()
        if not self._proxy.ending:
            await self._proxy._call("unlisten", listener=self.listener)

    def _set_addresses(self, addresses: object) -> None:
        if isinstance(addresses, list):
            self.addresses = tuple(str(address) for address in addresses)
            if self.on_addresses is not None:
                self.on_addresses()

    def _end(self) -> None:
        while not self._ready.empty():
            ready = self._ready.get_nowait()
            if ready is not None:
                ready[0].close()
        self._ready.put_nowait(None)


class Proxy:
    """One control connection. Belongs to the asyncio loop in which it was opened."""

    def __init__(self, sock: socket.socket) -> None:
        self.ending = ""
        """Why no more channels will come; empty while all is well."""
        self.hello: dict[str, Any] = {}
        """The proxy's answer to `hello`: `version`, `pid`, `fabrics`."""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._next_id = 1
        self._answers: dict[int, asyncio.Future[tuple[dict[str, Any], socket.socket | None]]] = {}
        self._listeners: dict[int, ProxyListener] = {}
        self._early: dict[int, list[tuple[socket.socket, ChannelFacts]]] = {}
        """Channels of listeners whose `listen` was answered but not yet taken note of."""
        self._closed = self._loop.create_future()

    @classmethod
    async def open(cls, path: str | None = None) -> Self:
        """Connects and says hello. Raises ProxyUnavailable."""
        if path is None:
            path = default_control_path()
            _check_directory(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            raise ProxyUnavailable(
                f"no proxy answers at {path}: {error.strerror}; start one with `rdmaproxy run`"
            ) from error
        proxy = cls(sock)
        proxy._loop.add_reader(sock, proxy._on_readable)
        try:
            async with asyncio.timeout(HELLO_DEADLINE):
                proxy.hello = await proxy._call("hello")
        except TimeoutError:
            proxy._end(f"the proxy at {path} does not answer")
            raise ProxyUnavailable(proxy.ending) from None
        except ProxyError as error:
            proxy._end(f"the proxy at {path} refused us: {error.message}")
            raise ProxyUnavailable(proxy.ending) from error
        return proxy

    async def listen(self, address: str, port: int, fabric: str | None = None) -> ProxyListener:
        """Port 0 chooses a free one; the listener tells which. Raises ProxyError."""
        result = await self._call("listen", address=address, port=port, fabric=fabric)
        number = int(result["listener"])
        listener = ProxyListener(self, number, str(result["address"]), int(result["port"]))
        listener._set_addresses(result.get("addresses"))
        self._listeners[number] = listener
        for ready in self._early.pop(number, ()):
            listener._ready.put_nowait(ready)
        if self.ending:
            listener._end()
        return listener

    async def connect(
        self, address: str, port: int, fabric: str | None = None
    ) -> tuple[socket.socket, ChannelFacts]:
        """A negotiated connection to an SMB Direct server. Raises ProxyError."""
        result, sock = await self._request("connect", address=address, port=port, fabric=fabric)
        if sock is None:
            raise ProxyError("EBADMSG", "the proxy answered connect without a channel")
        return sock, ChannelFacts.from_json(result["channel"])

    async def status(self) -> dict[str, Any]:
        """Totals, counters, listeners and all connections of the proxy."""
        whole = page = await self._call("status")
        while page.get("more"):
            page = await self._call("status", after=page["connections"][-1]["connection"])
            whole["connections"] += page["connections"]
        whole["more"] = False
        return whole

    async def close_connection(self, connection: int) -> None:
        """Ends one connection in good order. Raises ProxyError."""
        await self._call("close", connection=connection)

    async def capture(self) -> socket.socket:
        """A stream of pcapng: all SMB Direct messages from now on, until it is closed. Raises ProxyError."""
        _, sock = await self._request("capture")
        if sock is None:
            raise ProxyError("EBADMSG", "the proxy answered capture without a stream")
        return sock

    async def drain(self, deadline: float | None = None) -> None:
        """Asks the proxy to end: connections in good order, after `deadline` seconds at once."""
        await self._call("drain", deadline=deadline)

    async def close(self) -> None:
        """Ends the control connection and with it our listeners; channels live on."""
        self._end("the control connection was closed")

    async def wait_closed(self) -> None:
        """Returns when the control connection has ended, whoever ended it."""
        await asyncio.shield(self._closed)

    async def _call(self, op: str, **members: Any) -> dict[str, Any]:
        result, sock = await self._request(op, **members)
        if sock is not None:
            sock.close()
        return result

    async def _request(
        self, op: str, **members: Any
    ) -> tuple[dict[str, Any], socket.socket | None]:
        if self._closed.done():
            raise ProxyUnavailable(self.ending)
        number = self._next_id
        self._next_id += 1
        given = {name: value for name, value in members.items() if value is not None}
        packet = json.dumps({"version": VERSION, "id": number, "op": op, **given}).encode()
        answer: asyncio.Future[tuple[dict[str, Any], socket.socket | None]]
        answer = self._answers[number] = self._loop.create_future()
        try:
            async with self._sending:
                await self._loop.sock_sendall(self._sock, packet)
        except OSError as error:
            self._answers.pop(number, None)
            if not self._closed.done():
                self._on_readable()  # its last words
            self._end(f"the proxy went away: {error.strerror}")
            raise ProxyUnavailable(self.ending) from error
        return await answer

    def _on_readable(self) -> None:
        for _ in range(READ_BUDGET):
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(
                    PACKET_MAX,
                    socket.CMSG_SPACE(DESCRIPTORS_MAX * array("i").itemsize),
                    socket.MSG_CMSG_CLOEXEC,
                )
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionResetError:
                continue  # told once, before what the proxy had to say
            except OSError as error:
                self._end(f"the proxy went away: {error.strerror}")
                return
            sock = _channel_end(ancillary)
            if not data:
                self._end("the proxy went away")
                return
            try:
                if flags & socket.MSG_TRUNC:
                    raise ValueError(f"a packet of more than {PACKET_MAX} bytes")
                kept = self._take(json.loads(data), sock)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                self._end(f"the proxy sent what docs/channel.md does not know: {error!r}")
                kept = False
            if sock is not None and not kept:
                sock.close()
            if self._closed.done():
                return

    def _take(self, packet: dict[str, Any], sock: socket.socket | None) -> bool:
        """One answer or event; True when `sock` was given to somebody."""
        if packet.get("event") == "channel":
            return sock is not None and self._take_channel(packet, sock)
        if packet.get("event") == "addresses":
            if (listener := self._listeners.get(packet.get("listener", 0))) is not None:
                listener._set_addresses(packet.get("addresses"))
            return False
        if packet.get("event") == "drain":
            self.ending = "the proxy is ending"
            self._end_listeners()
            return False
        if "event" in packet:
            return False
        if packet.get("id") is None and not packet["ok"]:
            self._end(f"the proxy turned us away: {packet['error']['message']}")
            return False
        answer = self._answers.pop(int(packet["id"]), None)
        if answer is None or answer.done():
            return False
        if not packet["ok"]:
            error = packet["error"]
            answer.set_exception(ProxyError(str(error["code"]), str(error["message"])))
            return False
        result = packet["result"]
        if "listener" in result:
            self._early.setdefault(int(result["listener"]), [])
        answer.set_result((result, sock))
        return True

    def _take_channel(self, packet: dict[str, Any], sock: socket.socket) -> bool:
        ready = sock, ChannelFacts.from_json(packet["channel"])
        number = int(packet["listener"])
        listener = self._listeners.get(number)
        if listener is not None:
            listener._ready.put_nowait(ready)
        elif number in self._early:
            self._early[number].append(ready)
        else:
            return False
        return True

    def _end_listeners(self) -> None:
        for listener in self._listeners.values():
            listener._ready.put_nowait(None)  # after those that are ready already
        self._listeners.clear()

    def _end(self, words: str) -> None:
        if self._closed.done():
            return
        self.ending = words
        self._closed.set_result(None)
        self._loop.remove_reader(self._sock)
        self._sock.close()
        self._end_listeners()
        for waiting in self._early.values():
            for sock, _ in waiting:
                sock.close()
        self._early.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ProxyUnavailable(words))
        self._answers.clear()


def _channel_end(ancillary: list[tuple[int, int, bytes]]) -> socket.socket | None:
    """The descriptor that came with a packet, as a socket; what is none is closed."""
    found: socket.socket | None = None
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
            continue
        descriptors = array("i")
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        for descriptor in descriptors:
            try:
                sock = socket.socket(fileno=descriptor)
            except OSError:
                os.close(descriptor)
                continue
            if found is None:
                found = sock
            else:
                sock.close()
    return found


def _check_directory(path: str) -> None:
    """In /tmp anybody may have made the directory: only our own is believed."""
    if not path.startswith("/tmp/"):
        return
    try:
        owner = os.stat(os.path.dirname(path)).st_uid
    except OSError:
        return  # connect says what is missing
    if owner != os.getuid():
        raise ProxyUnavailable(f"{os.path.dirname(path)} belongs to user {owner}, not to us")
