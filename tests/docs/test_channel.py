"""docs/channel.md says what the code does: frames, numbers, limits, members, in Python and in C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from struct import Struct
from typing import Any

import pytest

from rdmaproxy import control, daemon
from smbdirect import control as client
from smbdirect import frames, windows
from smbdirect.channel_facts import ChannelFacts
from smbdirect.close_reason import CloseReason
from smbdirect.connection import SEND_HIGH_WATER
from smbdirect.frames import FrameType, Status
from smbdirect.pdu import BufferDescriptor
from smbdirect.rdma import TRANSFERS_MAX
from tests.rdmaproxy.running import running
from tests.smbdirect.far_end import pair

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "channel.md").read_text()
SENTENCES = " ".join(DOCUMENT.split())
"""The document without its line breaks."""
FORMATS = {"u32": "I", "u64": "Q"}
ANSWER_SECONDS = 20.0


def table(*heads: str) -> Iterator[list[str]]:
    """The rows of the table with these heads."""
    lines = DOCUMENT.splitlines()
    start = lines.index(f"| {' | '.join(heads)} |") + 2
    for line in lines[start:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def rows(*heads: str) -> list[list[str]]:
    found = list(table(*heads))
    assert found
    return found


FRAMES = rows("type", "name", "direction", "body")


def c_source(name: str) -> str:
    return (ROOT / "csrc" / name).read_text()


def c_enum(name: str, of: str, prefix: str) -> dict[str, int]:
    """The values of `enum of` in csrc/name, without their prefix."""
    body = re.search(rf"enum {of} \{{(.*?)\n\}}", c_source(name), re.DOTALL)
    assert body
    values = re.findall(rf"{prefix}(\w+) = (0x[0-9a-f]+|\d+)", body[1])
    return {word: int(number, 0) for word, number in values}


def test_frames_have_their_types() -> None:
    told = {name: int(number, 16) for number, name, _, _ in FRAMES}
    assert told == {kind.name: kind.value for kind in FrameType}
    assert told == c_enum("channel_frames.h", "channel_frame", "CHANNEL_")


def test_bodies_are_laid_out_as_told() -> None:
    layout = ""
    for _, name, _, body in FRAMES[1:]:
        if body != "the same":
            kinds = [field.split()[0] for field in body.split("`")[1].split(", ")]
            layout = "<" + "".join(FORMATS[kind] for kind in kinds)
        written: Struct = getattr(frames, "RDMA" if name.startswith("RDMA_") else name)
        assert written.format == layout, name


def test_each_side_takes_what_the_other_sends() -> None:
    to_proxy = {name for _, name, direction, _ in FRAMES if direction == "worker to proxy"}
    to_worker = {name for _, name, direction, _ in FRAMES if direction == "proxy to worker"}
    taken = set(re.findall(r"case CHANNEL_(\w+):", c_source("channel_in.c")))
    assert to_proxy == taken
    assert to_worker == asyncio.run(taken_by_a_worker())


async def taken_by_a_worker() -> set[str]:
    channel, _ = pair()
    return {FrameType(kind).name for kind in channel._proxy_frames()}


def test_a_descriptor() -> None:
    told = re.search(r"A \*\*descriptor\*\* is (\d+) bytes, `([^`]+)`", SENTENCES)
    assert told
    assert int(told[1]) == BufferDescriptor.SIZE
    values = BufferDescriptor(offset=1, token=2, length=3)
    packed = values.pack()
    for field in told[2].split(", "):
        kind, name = field.split()
        size = {"u32": 4, "u64": 8}[kind]
        assert int.from_bytes(packed[:size], "little") == getattr(values, name)
        packed = packed[size:]
    assert not packed


def test_statuses() -> None:
    told = [int(number) for number, _ in rows("status", "meaning")]
    assert told == [status.value for status in Status]
    assert told == list(c_enum("channel_frames.h", "channel_status", "CHANNEL_STATUS_").values())


def test_reasons() -> None:
    told = {name: int(number) for number, name, _ in rows("reason", "name", "meaning")}
    ours = {reason.name.lower(): reason.value for reason in CloseReason if reason}
    assert told == ours
    theirs = c_enum("path.h", "close_reason", "CLOSE_")
    assert told == {name.lower(): number for name, number in theirs.items() if number}


def c_number(name: str, constant: str) -> int:
    found = re.search(rf"\b{constant} = (\d+)(?: << (\d+))?,", c_source(name))
    assert found, constant
    return int(found[1]) << int(found[2] or 0)


@pytest.mark.parametrize(
    ("sentence", "values"),
    [
        (
            "no further frame while (.+) of messages waits for the peer",
            {SEND_HIGH_WATER, c_number("smbd_connection.h", "SMBD_SEND_HIGH_WATER")},
        ),
        (
            r"waits for the peer, (\d+) operations are under way",
            {TRANSFERS_MAX, c_number("smbd_connection.h", "SMBD_TRANSFERS_MAX")},
        ),
        (
            r"At most (\d+) in one frame",
            {frames.DESCRIPTORS_MAX, c_number("path.h", "MAX_DESCRIPTORS")},
        ),
        (
            r"one sentence of at most (\d+) bytes",
            {c_number("channel_frames.h", "CHANNEL_WORDS_MAX")},
        ),
        (r"a worker takes up to (\d+)", {frames.WORDS_MAX}),
        (
            r"1 and up, at most (\d+);",
            {frames.POOLS_MAX, c_number("channel.h", "CHANNEL_POOLS_MAX")},
        ),
        (r"more than (\d+) of them", {c_number("channel.h", "CHANNEL_DESCRIPTORS_MAX")}),
        (
            r"At most (\d+) ranges are exposed",
            {windows.WINDOWS_MAX, c_number("smbd_connection.h", "SMBD_WINDOWS_MAX")},
        ),
        (
            r"one JSON object in UTF-8, at most (\d+) bytes",
            {control.PACKET_MAX, client.PACKET_MAX},
        ),
        (r"at most (\d+) connections in order", {daemon.CONNECTIONS_MAX}),
        (r"has at most (\d+) listeners", {daemon.LISTENERS_MAX}),
        (r"listeners and (\d+) connects", {daemon.CONNECTS_MAX}),
        (r"more than (\d+) packets wait", {control.QUEUE_MAX}),
    ],
)
def test_limits(sentence: str, values: set[int]) -> None:
    found = re.search(sentence, SENTENCES)
    assert found
    number, _, unit = found[1].partition(" ")
    assert {int(number) * {"": 1, "MiB": 1 << 20}[unit]} == values


def members(object_: str) -> set[str]:
    """The outermost names of an object as the document writes it."""
    while True:
        inner = re.sub(r"(?<=.)\{[^{}]*\}", "x", object_)
        if inner == object_:
            return set(re.findall(r'"(\w+)":', object_))
        object_ = inner


def results() -> dict[str, set[str]]:
    ops = rows("op", "members", "result")
    return {op.strip("`"): members(result.split("`")[1]) for op, _, result in ops}


def channel_members() -> set[str]:
    told = re.search(r"CHANNEL is what is known of a connection: `(.+?)`", SENTENCES)
    assert told
    return members(told[1])


def ask(
    sock: socket.socket, channels: contextlib.ExitStack, op: str, **more: object
) -> dict[str, Any]:
    """The result of one request; the channels that come meanwhile are held open."""
    sock.send(json.dumps({"version": 1, "id": 7, "op": op, **more}).encode())
    while True:
        data, descriptors, _, _ = socket.recv_fds(sock, 65536, 1)
        for descriptor in descriptors:
            channels.callback(os.close, descriptor)
        packet = json.loads(data)
        if "event" not in packet:
            assert packet["ok"], packet
            assert packet["id"] == 7
            result: dict[str, Any] = packet["result"]
            return result


def test_a_proxy_answers_as_told() -> None:
    told = results()
    with (
        running() as proxy,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock,
        contextlib.ExitStack() as channels,
    ):
        sock.settimeout(ANSWER_SECONDS)
        sock.connect(proxy.control)
        asked = partial(ask, sock, channels)
        listener = asked("listen", address="127.0.0.1", port=0)
        connected = asked("connect", address="127.0.0.1", port=listener["port"])
        facts = connected["channel"]
        assert set(facts) == channel_members()
        answers = {
            "hello": asked("hello"),
            "listen": listener,
            "connect": connected,
            "status": asked("status"),
            "close": asked("close", connection=facts["connection"]),
            "unlisten": asked("unlisten", listener=listener["listener"]),
            "capture": asked("capture"),
            "drain": asked("drain", deadline=0),
        }
    assert {op: set(answer) for op, answer in answers.items()} == told


def test_every_op_and_every_event_is_told() -> None:
    source = (ROOT / "rdmaproxy" / "daemon.py").read_text()
    assert set(results()) == set(re.findall(r'^ {12}"(\w+)": self\._', source, re.MULTILINE))
    events = {name.strip("`") for name, _ in rows("event", "members")}
    assert events == set(re.findall(r'(?:client\.event|broadcast)\("(\w+)"', source))


def test_every_code_is_told() -> None:
    told = {code for codes, _, _ in rows("code", "of", "meaning") for code in codes.split(", ")}
    sources = [(ROOT / "rdmaproxy" / name).read_text() for name in ("daemon.py", "control.py")]
    said = {code for source in sources for code in re.findall(r'"(E[A-Z]{3,})"', source)}
    assert said <= told


def test_what_is_known_of_a_channel_is_told() -> None:
    known = {field.name for field in fields(ChannelFacts)}
    assert known - {"transport"} == channel_members()
