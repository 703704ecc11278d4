"""The server service over its pipe."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.config import Config, parse
from smbserver.pipes import srvsvc
from smbserver.pipes.dcerpc import MAX_REQUEST, Association
from smbserver.pipes.ndr import Reader, Writer
from smbserver.wire.bounds import Malformed
from smbserver.wire.ioctl import CtlCode
from smbserver.wire.status import StatusError
from tests.smbserver.in_process import in_loop, serving

NDR = bytes.fromhex("045d888aeb1cc9119fe808002b104860") + struct.pack("<I", 2)


def config() -> Config:
    return parse(["[one]", "path = /", "comment = first", "[off]", "path = /", "available = no"])


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack("<BBBB4sHHI", 5, 0, kind, 3, b"\x10\0\0\0", 16 + len(body), 0, 7) + body


def bind(version: int = srvsvc.VERSION) -> bytes:
    context = struct.pack("<HBx16sI", 0, 1, srvsvc.UUID, version) + NDR
    return pdu(11, struct.pack("<HHIB3x", 4280, 4280, 0, 1) + context)


def request(number: int, stub: bytes) -> bytes:
    return pdu(0, struct.pack("<IHH", len(stub), 0, number) + stub)


def ask(number: int, stub: bytes) -> tuple[int, bytes]:
    """Kind and stub of the answer."""
    association = Association(srvsvc.interface(config()))
    association.receive(request(number, stub))
    answer = association.take(1 << 20)
    return answer[2], answer[24:]


@pytest.mark.parametrize(("version", "outcome"), [(3, 0), (4, 2)])
def test_bind(version: int, outcome: int) -> None:
    association = Association(srvsvc.interface(config()))
    message = bind(version)
    association.receive(message[:20])
    assert not association.waiting
    association.receive(message[20:])
    answer = association.take(1000)
    assert answer[2] == 12
    assert struct.unpack_from("<H", answer, len(answer) - 24)[0] == outcome


@pytest.mark.parametrize("level", [0, 1, 2])
def test_shares(level: int) -> None:
    kind, stub = ask(15, struct.pack("<IIIIIIIII", 0, level, level, 1, 0, 0, 0xFFFFFFFF, 0, 0))
    assert kind == 2
    assert struct.unpack_from("<II", stub) == (level, level)
    assert struct.unpack_from("<I", stub, 12)[0] == 2
    assert struct.unpack("<III", stub[-12:]) == (2, 0, 0)
    text = stub.decode("utf-16-le", "ignore")
    assert "one\0" in text
    assert "IPC$\0" in text
    assert "off\0" not in text
    assert ("first\0" in text) == (level > 0)


def test_one_share_and_the_server() -> None:
    name = Writer()
    name.text("ONE")
    name.follow()
    assert ask(16, struct.pack("<I", 0) + name.data[4:] + struct.pack("<I", 1))[1][-4:] == bytes(4)
    missing = struct.pack("<IIIIHxxI", 0, 2, 0, 2, 0x78, 1)
    assert ask(16, missing)[1][-4:] == struct.pack("<I", 2310)
    assert ask(21, struct.pack("<II", 0, 101))[1][-4:] == bytes(4)
    assert ask(21, struct.pack("<II", 0, 7))[1][-4:] == struct.pack("<I", 124)


def test_faults() -> None:
    assert ask(99, b"")[0] == 3
    assert ask(15, b"")[0] == 3


def test_text_has_a_limit() -> None:
    with pytest.raises(Malformed):
        Reader(struct.pack("<III", 5000, 0, 5000) + bytes(10000)).text()


def test_what_waits_has_a_limit() -> None:
    with pytest.raises(Malformed):
        Association(srvsvc.interface(config())).receive(bytes(MAX_REQUEST + 1))


@given(st.integers(0, 22), st.binary(max_size=80))
def test_nothing_breaks_it(number: int, stub: bytes) -> None:
    association = Association(srvsvc.interface(config()))
    with contextlib.suppress(Malformed):
        association.receive(request(number, stub))
        association.receive(stub)


@given(
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=6),
    st.lists(st.integers(1, 60), max_size=6),
)
def test_damaged_requests(changes: list[tuple[int, int]], pieces: list[int]) -> None:
    """A bind and a request with some bytes changed, in pieces of any length."""
    raw = bytearray(bind() + request(15, struct.pack("<IIIII", 0, 1, 1, 0, 0)))
    for at, value in changes:
        raw[at % len(raw)] = value
    association = Association(srvsvc.interface(config()))
    with contextlib.suppress(Malformed):
        for length in pieces:
            association.receive(bytes(raw[:length]))
            del raw[:length]
        association.receive(bytes(raw))


@in_loop
async def test_through_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, await server.session() as session:
        tree = await session.tree("IPC$")
        with pytest.raises(StatusError, match="OBJECT_NAME_NOT_FOUND"):
            await tree.create("spoolss")
        pipe = await tree.create("srvsvc")
        answer = await pipe.ioctl(CtlCode.FSCTL_PIPE_TRANSCEIVE, bind())
        assert answer[2] == 12
        await pipe.write(0, request(21, struct.pack("<II", 0, 100)))
        assert (await pipe.read(0, 1000))[2] == 2
        await pipe.close()
