"""DCE/RPC over a named pipe ([C706] chapter 12, [MS-RPCE] 2.2.2): bind, request, response, fault."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from smbserver.wire.bounds import Buffer, Malformed, unpack_from

MAX_FRAGMENT = 4280
"""Bytes of one fragment, as Windows has it."""
MAX_REQUEST = 65536
"""Bytes that may wait in a pipe; the calls offered here need some hundred."""

_HEADER = struct.Struct("<BBBB4sHHI")
_BIND = struct.Struct("<HHIB3x")
_CONTEXT = struct.Struct("<HBx16sI16sI")
_RESULT = struct.Struct("<HH16sI")
_REQUEST = struct.Struct("<IHH")
_DREP = b"\x10\0\0\0"
_REQUEST_TYPE, _RESPONSE, _FAULT, _BIND_TYPE, _BIND_ACK, _ALTER, _ALTER_ACK = (
    0,
    2,
    3,
    11,
    12,
    14,
    15,
)
_FIRST, _LAST = 1, 2
_NDR = uuid.UUID("8a885d04-1ceb-11c9-9fe8-08002b104860").bytes_le
_UNKNOWN_CALL = 0x1C010002  # nca_s_op_rng_error
_BAD_STUB = 0x000006F7  # RPC_X_BAD_STUB_DATA

Call = Callable[[Buffer], bytes]


@dataclass(frozen=True, slots=True)
class Interface:
    """What a pipe offers."""

    pipe: str
    uuid: bytes
    version: int
    calls: Mapping[int, Call]
    """By operation number: from the request's stub to the response's."""


class Association:
    """One client's conversation on a pipe: bytes in, bytes out."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._received = b""
        self.waiting = b""
        """What the client has yet to read."""

    def receive(self, data: Buffer) -> None:
        """Takes what the client wrote, answers what is whole."""
        self._received += bytes(data)
        if len(self._received) > MAX_REQUEST:
            raise Malformed(f"more than {MAX_REQUEST} bytes of one call")
        while len(self._received) >= _HEADER.size:
            version, _, kind, _, drep, length, _, call = _HEADER.unpack_from(self._received)
            if version != 5 or drep[0] != _DREP[0] or length < _HEADER.size:
                raise Malformed("no DCE/RPC 5 in little endian order")
            if len(self._received) < length:
                return
            body = self._received[_HEADER.size : length]
            self._received = self._received[length:]
            self._serve(kind, call, body)

    def take(self, length: int) -> bytes:
        """The next bytes for the client."""
        taken, self.waiting = self.waiting[:length], self.waiting[length:]
        return taken

    def _serve(self, kind: int, call: int, body: bytes) -> None:
        if kind in (_BIND_TYPE, _ALTER):
            ack = _BIND_ACK if kind == _BIND_TYPE else _ALTER_ACK
            self._send(ack, call, self._bind(body))
        elif kind == _REQUEST_TYPE:
            self._call(call, body)

    def _bind(self, body: bytes) -> bytes:
        _, _, group, count = unpack_from(_BIND, body, 0, "bind")
        results, at = b"", _BIND.size
        for _ in range(count):
            _, syntaxes, abstract, version, transfer, _ = unpack_from(_CONTEXT, body, at, "context")
            known = abstract == self._interface.uuid and version == self._interface.version
            accepted = known and transfer == _NDR
            outcome = (0, 0, _NDR, 2) if accepted else (2, 1 if not known else 2, bytes(16), 0)
            results += _RESULT.pack(*outcome)
            at += 24 + 20 * syntaxes
        name = f"\\PIPE\\{self._interface.pipe}".encode() + b"\0"
        head = struct.pack("<HHIH", MAX_FRAGMENT, MAX_FRAGMENT, group or 1, len(name)) + name
        # Padding counts from the fragment's start; the common header is a multiple of four.
        return head + bytes(-len(head) % 4) + bytes((count, 0, 0, 0)) + results

    def _call(self, call: int, body: bytes) -> None:
        _, context, number = unpack_from(_REQUEST, body, 0, "request")
        serve = self._interface.calls.get(number)
        fault = _UNKNOWN_CALL
        if serve is not None:
            try:
                stub = serve(body[_REQUEST.size :])
            except Malformed:
                fault = _BAD_STUB
            else:
                self._respond(call, context, stub)
                return
        self._send(_FAULT, call, _REQUEST.pack(0, context, 0) + struct.pack("<II", fault, 0))

    def _respond(self, call: int, context: int, stub: bytes) -> None:
        room = MAX_FRAGMENT - _HEADER.size - _REQUEST.size
        for at in range(0, len(stub), room):
            flags = (_FIRST if at == 0 else 0) | (_LAST if at + room >= len(stub) else 0)
            head = _REQUEST.pack(len(stub) - at, context, 0)
            self._send(_RESPONSE, call, head + stub[at : at + room], flags)

    def _send(self, kind: int, call: int, body: bytes, flags: int = _FIRST | _LAST) -> None:
        length = _HEADER.size + len(body)
        self.waiting += _HEADER.pack(5, 0, kind, flags, _DREP, length, 0, call) + body
