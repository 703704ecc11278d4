"""The control socket (docs/channel.md section 2): who may connect, packets in and out. What they mean, daemon.py knows.

A client costs a bounded amount: one packet is read at a time, QUEUE_MAX packets wait for it at most. Who does not read
is disconnected, who sends what cannot be parsed gets an error and is disconnected.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import grp
import json
import os
import pwd
import socket
import stat
import struct
from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from rdmaproxy import log

VERSION = 1
PACKET_MAX = 65536
"""Bytes of one JSON object."""
QUEUE_MAX = 256
"""Packets that wait for a client that does not read; the kernel keeps some more."""
READ_BUDGET = 16
"""Packets taken from one client in one wake-up, then others have a turn."""
ACCEPT_BUDGET = 64
"""Connections accepted in one wake-up."""
ACCEPT_PAUSE = 1.0
"""Seconds without accepting when descriptors or memory ran out."""
BACKLOG = 128
SO_PEERGROUPS = 59
"""Supplementary groups of a peer (Linux 4.13)."""
GROUPS_MAX = 65536


class ControlUnavailable(Exception):
    """The control socket cannot be had."""


class RequestFailed(Exception):
    """An answer with `ok` false. `code` is the name of an errno."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a client is: SO_PEERCRED and SO_PEERGROUPS at the time of its connect."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    @classmethod
    def of(cls, sock: socket.socket) -> Credentials:
        layout = struct.Struct("3i")
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
        pid, uid, gid = layout.unpack(raw)
        groups = array("I")
        try:
            found = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * GROUPS_MAX)
            groups.frombytes(found)
        except OSError:
            pass  # an old kernel: the primary group must do
        return cls(pid, uid, gid, frozenset(groups))


@dataclass(frozen=True, slots=True)
class Allowed:
    """Who may use the control socket: our own user, root, and those of the configuration."""

    users: frozenset[int]
    groups: frozenset[int]

    @classmethod
    def of(cls, users: Iterable[str], groups: Iterable[str]) -> Allowed:
        """From names or numbers. ControlUnavailable for a name that nobody has."""
        try:
            return cls(
                frozenset(int(u) if u.isdigit() else pwd.getpwnam(u).pw_uid for u in users)
                | {0, os.geteuid()},
                frozenset(int(g) if g.isdigit() else grp.getgrnam(g).gr_gid for g in groups),
            )
        except KeyError as error:
            raise ControlUnavailable(f"allow users, allow groups: {error.args[0]}") from error

    def __contains__(self, peer: Credentials) -> bool:
        return peer.uid in self.users or not self.groups.isdisjoint(peer.groups | {peer.gid})


class Requests(Protocol):
    """What is done with the packets."""

    def request(self, client: ControlClient, number: object, packet: dict[str, Any]) -> None:
        """Must end in `client.answer` or `client.refuse`, now or later, or raise RequestFailed."""

    def gone(self, client: ControlClient) -> None: ...


class ControlClient:
    """One control connection."""

    def __init__(self, server: ControlServer, sock: socket.socket, peer: Credentials) -> None:
        self.peer = peer
        self.closed = False
        self._server = server
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._last = False
        self._loop.add_reader(sock, self._on_readable)

    def answer(self, number: object, result: dict[str, Any], fd: int = -1) -> None:
        """`fd`, if there is one, goes with it and is closed here."""
        self._send({"version": VERSION, "id": number, "ok": True, "result": result}, fd)

    def refuse(self, number: object, code: str, message: str) -> None:
        error = {"code": code, "message": message}
        self._send({"version": VERSION, "id": number, "ok": False, "error": error}, -1)

    def event(self, name: str, fd: int = -1, **members: Any) -> None:
        """`fd`, if there is one, goes with it and is closed here."""
        self._send({"version": VERSION, "event": name, **members}, fd)

    def dismiss(self, code: str, message: str) -> None:
        """An error that answers no request, and the end."""
        self.refuse(None, code, message)
        self.close(message)

    def close(self, words: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for _, fd in self._queue:
            _close_descriptor(fd)
        self._queue.clear()
        self._server._gone(self, words)

    def _send(self, packet: dict[str, Any], fd: int) -> None:
        if self.closed:
            _close_descriptor(fd)
            return
        self._queue.append((json.dumps(packet, separators=(",", ":")).encode(), fd))
        if len(self._queue) == 1:
            self._flush()
        elif len(self._queue) > QUEUE_MAX:
            self.close(f"it does not read: {QUEUE_MAX} packets wait for it")

    def _flush(self) -> None:
        while self._queue:
            data, fd = self._queue[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))] if fd >= 0 else []
            try:
                self._sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError as error:
                self.close(f"it cannot be written to: {error.strerror}")
                return
            self._queue.popleft()
            _close_descriptor(fd)
        self._loop.remove_writer(self._sock)

    def _on_readable(self) -> None:
        for _ in range(READ_BUDGET):
            if self.closed:
                return
            try:
                data, _, flags, _ = self._sock.recvmsg(PACKET_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.close(f"it cannot be read from: {error.strerror}")
                return
            if not data:
                self.close("it disconnected")
                return
            self._packet(data, bool(flags & socket.MSG_TRUNC))

    def _packet(self, data: bytes, truncated: bool) -> None:
        try:
            if truncated:
                raise ValueError(f"a packet of more than {PACKET_MAX} bytes")
            packet = json.loads(data)
            if not isinstance(packet, dict):
                raise ValueError("a packet that is no object")
        except (ValueError, RecursionError) as error:
            self.dismiss("EBADMSG", f"this cannot be parsed: {error}")
            return
        number = packet.get("id")
        if packet.get("version") != VERSION:
            self.refuse(number, "EPROTONOSUPPORT", f"only version {VERSION} is spoken here")
            return
        try:
            self._server.requests.request(self, number, packet)
        except RequestFailed as failed:
            self.refuse(number, failed.code, failed.message)


class ControlServer:
    """The socket that clients connect to."""

    def __init__(
        self,
        path: str,
        allowed: Allowed,
        clients_max: int,
        requests: Requests,
        passed: socket.socket | None = None,
    ) -> None:
        """Binds and listens. ControlUnavailable says why that is not possible.

        `passed` listens already: the service manager has bound it, and keeps it when we end.
        """
        self.path = path
        self.requests = requests
        self.clients: set[ControlClient] = set()
        self.refusals = 0
        """Clients turned away: not allowed, or too many."""
        self._allowed = allowed
        self._clients_max = clients_max
        _make_directory(os.path.dirname(path) or ".", open_to_others=_has_others(allowed))
        self._lock = _take_lock(path)
        self._is_passed = passed is not None
        try:
            self._sock = passed or _bind(path, 0o666 if _has_others(allowed) else 0o600)
        except BaseException:
            os.close(self._lock)
            raise
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._on_acceptable)

    def broadcast(self, name: str) -> None:
        for client in list(self.clients):
            client.event(name)

    def close(self) -> None:
        """Ends every control connection and removes the socket."""
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for client in list(self.clients):
            client.close("the proxy is ending")
        try:
            if not self._is_passed:
                os.unlink(self.path)
        except OSError:
            pass  # somebody removed it before
        os.close(self._lock)

    def _on_acceptable(self) -> None:
        for _ in range(ACCEPT_BUDGET):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(error)
                    return
                continue
            self._admit(sock)

    def _pause(self, error: OSError) -> None:
        log.refusal("control_accept_failed", error=error.strerror, pause_seconds=ACCEPT_PAUSE)
        self._loop.remove_reader(self._sock)
        self._loop.call_later(ACCEPT_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._on_acceptable)

    def _admit(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        peer = Credentials.of(sock)
        client = ControlClient(self, sock, peer)
        self.clients.add(client)
        if peer not in self._allowed:
            words = (
                f"user {peer.uid} may not use the control socket; `allow users` and `allow groups`"
                " of the configuration say who may"
            )
            self._refuse(client, "EACCES", words)
        elif len(self.clients) > self._clients_max:
            words = f"{self._clients_max} control connections are the limit (`control clients`)"
            self._refuse(client, "EAGAIN", words)
        else:
            log.detail("control_connected", pid=peer.pid, uid=peer.uid)

    def _refuse(self, client: ControlClient, code: str, words: str) -> None:
        self.refusals += 1
        peer = client.peer
        log.refusal("control_refused", pid=peer.pid, uid=peer.uid, gid=peer.gid, words=words)
        client.dismiss(code, words)

    def _gone(self, client: ControlClient, words: str) -> None:
        self.clients.discard(client)
        log.detail("control_disconnected", pid=client.peer.pid, words=words)
        self.requests.gone(client)


def _close_descriptor(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def _has_others(allowed: Allowed) -> bool:
    return bool(allowed.groups or allowed.users - {0, os.geteuid()})


def _make_directory(path: str, open_to_others: bool) -> None:
    """Makes the socket's directory if it is missing; one that others could tamper with is refused."""
    try:
        os.makedirs(path, mode=0o711 if open_to_others else 0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as error:
        raise ControlUnavailable(f"{path} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ControlUnavailable(f"{path} is no directory")
    sticky = status.st_mode & stat.S_ISVTX
    if status.st_uid not in (0, os.geteuid()) or (status.st_mode & stat.S_IWOTH and not sticky):
        raise ControlUnavailable(
            f"{path} belongs to user {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o}:"
            " others could replace the control socket in it; name another with --socket"
        )


def _take_lock(path: str) -> int:
    """Of two proxies that start at once, one gets the lock and with it the right to the path."""
    try:
        lock = os.open(path + ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ControlUnavailable(f"{path}.lock cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ControlUnavailable(f"another rdmaproxy runs with {path}") from error
    return lock


def _bind(path: str, mode: int) -> socket.socket:
    """A listening socket at `path`; what is left of a dead proxy is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        if _is_stale(path):
            os.unlink(path)
        mask = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ControlUnavailable(f"{path}: {error.strerror or error}") from error
    except ControlUnavailable:
        sock.close()
        raise
    return sock


def _is_stale(path: str) -> bool:
    """Whether there is a socket nobody listens on. Anything else that is there is not ours to remove."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ControlUnavailable(f"{path} is there already and is no socket")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError as error:
            raise ControlUnavailable(f"{path} is in use: {error.strerror}") from error
    raise ControlUnavailable(f"somebody listens on {path} already")
