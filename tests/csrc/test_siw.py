"""Our MPA, DDP and RDMAP parsers read every byte that two kernels said to each other.

tests/data/siw.pcap.gz holds one TCP connection on port 5445 between cifs.ko and ksmbd over Linux siw. Here each
direction is put together by sequence number and given to the C program read_stream.
"""

from __future__ import annotations

import gzip
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .linked import linked
from .test_units import FLAGS, HERE, ROOT

CAPTURE = ROOT / "tests" / "data" / "siw.pcap.gz"
PORT = 5445
PCAP_HEADER = struct.Struct("<IHHiIII")
RECORD_HEADER = struct.Struct("<IIII")
TCP_PORTS_AND_SEQUENCE = struct.Struct(">HHI")
ETHERNET = 14
SYN = 0x02


def tcp_segments(capture: bytes) -> Iterator[tuple[bool, int, int, bytes]]:
    """To the server?, sequence number, flags and payload of every TCP segment."""
    at = PCAP_HEADER.size
    while at < len(capture):
        _, _, captured, length = RECORD_HEADER.unpack_from(capture, at)
        at += RECORD_HEADER.size
        assert captured == length, "the capture is cut"
        packet = capture[at + ETHERNET : at + captured]
        at += captured
        header = (packet[0] & 0x0F) * 4
        total = int.from_bytes(packet[2:4], "big")
        tcp = packet[header:total]
        _, destination, sequence = TCP_PORTS_AND_SEQUENCE.unpack_from(tcp)
        yield destination == PORT, sequence, tcp[13], tcp[(tcp[12] >> 4) * 4 :]


def streams(capture: bytes) -> dict[bool, bytes]:
    """What each side said, in its order: True is the client."""
    first: dict[bool, int] = {}
    said: dict[bool, bytearray] = {True: bytearray(), False: bytearray()}
    for client, sequence, flags, payload in tcp_segments(capture):
        if flags & SYN:
            first[client] = sequence + 1
            continue
        place = (sequence - first[client]) & 0xFFFFFFFF
        if payload:
            assert place <= len(said[client]), "bytes are missing"
            said[client][place : place + len(payload)] = payload
    return {client: bytes(stream) for client, stream in said.items()}


@pytest.fixture(scope="module")
def read_stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("siw") / "read_stream"
    source = HERE / "read_stream.c"
    include = ["-I", str(ROOT / "csrc"), "-I", str(HERE)]
    command = ["gcc", *FLAGS, *include, str(source), *linked(source), "-o", str(program)]
    subprocess.run(command, check=True, timeout=180)
    return program


def read(program: Path, stream: bytes, path: Path) -> dict[str, int]:
    path.write_bytes(stream)
    command = [str(program), str(path)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return {name: int(count) for name, count in (line.split() for line in run.stdout.splitlines())}


def test_every_frame_between_two_kernels(read_stream: Path, tmp_path: Path) -> None:
    said = streams(gzip.decompress(CAPTURE.read_bytes()))
    client = read(read_stream, said[True], tmp_path / "client")
    server = read(read_stream, said[False], tmp_path / "server")
    assert (client["request"], client["ird"], client["ord"]) == (1, 32, 0)
    assert server["reply"] == 1
    # What the server asked for by Read Requests is what the client sent, each in one message.
    assert server["read_request"] == client["read_response"] > 0
    assert server["requested_bytes"] == client["read_response_bytes"] >= 2 << 20
    assert server["write_bytes"] >= 2 << 20
    assert client["send"] > server["send_invalidate"] > 0
