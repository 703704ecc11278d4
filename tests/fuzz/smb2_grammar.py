"""A grammar of SMB2 requests that are mostly right: each production makes the body of one command ([MS-SMB2] 2.2).

Written from the specification and without the server's codec, so that no misunderstanding is shared. A sentence is
first made well, of values that lead far into the server, and then perhaps distorted.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

HEADER = 64
"""Bytes before every body; offsets count from the header."""

ANY_ID = b"\xff" * 16
"""The FileId of the request before, in a related compound."""

EDGES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000)
EDGES += (0xFFFFFFFE, 0xFFFFFFFF, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)

NAMES = (
    *("", "a", "b", "A", "new", "dir", "dir\\x", "dir\\y", "dir\\deep\\z", "LONGNA~1", "a.txt"),
    *("..", ".", "..\\canary", "dir\\..\\..\\canary", "..\\..\\..\\..\\etc\\passwd", "\\a", "/a"),
    *("out", "out\\canary", "dir/../../canary", "canary", "/etc/passwd", "\\\\host\\share\\a"),
    *("a:stream", "a::$DATA", "dir:s:$DATA", ":s", "a:b:c:d", "a:", "dir::$INDEX_ALLOCATION"),
    *("*", "?", "a*", "<.>", '"', "nul\0byte", "tab\t", "end.", "end ", "x" * 255, "x" * 300),
    *("\ud800", "\u00e4\u00f6", "\U0001f600", "srvsvc", "CON", "@GMT-2020.01.01-00.00.00", ".dot"),
)
USUAL_NAMES = ("a", "b", "A", "new", "dir", "dir\\x", "dir\\y", "a:stream", "", "a.txt")
STRANGERS = (b"S" * 16, b"T" * 16)
"""ClientGUIDs of who only negotiates: a new one costs the server a process."""

PATTERNS = ("*", "*", "?", "a*", "*.*", "<", ">", '"', "", "a", "..", "x" * 300)
SHARES = ("share", "share", "cached", "IPC$", "none", "share\\a", "..", "")
CONTEXTS = (b"MxAc", b"QFid", b"AlSi", b"TWrp", b"SecD", b"ExtA", b"RqLs", b"DHnQ", b"DHnC")
CONTEXTS += (b"DH2Q", b"DH2C", bytes.fromhex("45BCA66AEFA7F74A9008FA462E144D74"), b"AAPL", b"x")
ACCESS = (0x80, 0x120089, 0x12019F, 0x1F01FF, 0x1F01FF, 0x02000000, 0x10000000, 0x10080, 0x100)
FILE_CLASSES = tuple(range(80))
DIRECTORY_CLASSES = (1, 2, 3, 12, 37, 38, 60, 0, 255)
IOCTLS = (
    *(0x00060194, 0x00060198, 0x000601B0, 0x0011400C, 0x0011C017, 0x001440F2, 0x001441BB),
    *(0x001401D4, 0x001401FC, 0x00140204, 0x00140078, 0x00144064, 0x000900C0, 0x0009009C),
    *(0x000900C4, 0x000980C8, 0x000940CF, 0x00098344, 0x0009003C, 0x0009C040, 0x000900A8),
    *(0x000900A4, 0x000900AC, 0x00090100, 0x00110018, 0x0009C280, 0x00098208, 0x0009023C),
)


@dataclass
class Source:
    """Where values come from: a random generator, and what the server has given us so far."""

    random: random.Random
    files: list[tuple[bytes, int]] = field(default_factory=list)
    """FileIds of opens that live, perhaps, each with its tree."""
    tree: int | None = None
    """Of the open that was named last."""
    resume_keys: list[bytes] = field(default_factory=list)

    def pick(self, choices: Sequence[Any]) -> Any:
        return self.random.choice(choices)

    def maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    def number(self, bits: int, *likely: int) -> int:
        """One of the likely ones mostly; an edge, or anything, of so many bits otherwise."""
        if likely and self.maybe(0.97):
            return self.pick(likely)
        value = self.pick(EDGES) if self.maybe(0.6) else self.random.getrandbits(bits)
        return value & ((1 << bits) - 1)

    def blob(self, longest: int = 200) -> bytes:
        return self.random.randbytes(self.random.randrange(longest + 1))

    def name(self) -> bytes:
        if self.maybe(0.05):
            return self.blob(64)
        names = USUAL_NAMES if self.maybe(0.6) else NAMES
        return self.pick(names).encode("utf-16-le", "surrogatepass")

    def file(self) -> bytes:
        """A FileId: one that lives mostly."""
        if self.files and self.maybe(0.97):
            file, self.tree = self.pick(self.files)
            return file
        return self.pick((ANY_ID, bytes(16), self.random.randbytes(16)))

    def forget(self, close: bytes) -> None:
        """A CLOSE with this body was carried out."""
        self.files = [one for one in self.files if one[0] != close[8:24]]

    def offset(self) -> int:
        return self.number(64, 0, 1, 4096, 65535, 1 << 20)

    def length(self) -> int:
        return self.number(32, 0, 1, 100, 4096, 65536)


def u16(value: int) -> bytes:
    return struct.pack("<H", value & 0xFFFF)


def u32(value: int) -> bytes:
    return struct.pack("<I", value & 0xFFFFFFFF)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value & (1 << 64) - 1)


# Productions


def negotiate(source: Source) -> bytes:
    dialects = [source.number(16, 0x202, 0x210, 0x300, 0x302, 0x311) for _ in range(5)]
    contexts = [_negotiate_context(source) for _ in range(source.random.randrange(5))]
    listed = b"".join(map(u16, dialects))
    start = HEADER + 36 + len(listed)
    gap = bytes(-start % 8)
    guid = source.pick(STRANGERS) if source.maybe(0.95) else source.random.randbytes(16)
    head = u16(36) + u16(len(dialects)) + u16(1) + u16(0) + u32(0x7F) + guid
    head += u32(start + len(gap)) + u16(len(contexts)) + u16(0)
    return head + listed + gap + b"".join(contexts)


def _negotiate_context(source: Source) -> bytes:
    kind = source.number(16, 1, 2, 3, 5, 6, 7, 8)
    data = {
        1: u16(1) + u16(32) + u16(1) + bytes(32),
        2: u16(2) + u16(2) + u16(1),
        8: u16(1) + u16(2),
    }.get(kind, source.blob(40))
    return _padded(u16(kind) + u16(source.number(16, len(data))) + u32(0) + data)


def session_setup(source: Source) -> bytes:
    token = source.pick(
        (
            b"NTLMSSP\0" + u32(source.number(32, 1, 3)) + source.blob(100),
            bytes.fromhex("604806062b0601050502a03e303ca00e300c060a2b06010401823702020a")
            + source.blob(),
            source.blob(300),
        )
    )
    head = u16(25) + bytes([source.pick((0, 0, 1)), 1]) + u32(1) + u32(0)
    return head + u16(HEADER + 24) + u16(source.number(16, len(token))) + u64(0) + token


def logoff(source: Source) -> bytes:
    return u16(4) + u16(0)


def tree_connect(source: Source) -> bytes:
    path = f"\\\\server\\{source.pick(SHARES)}".encode("utf-16-le")
    if source.maybe(0.1):
        path = source.blob(80)
    return u16(9) + u16(source.number(16, 0)) + u16(HEADER + 8) + u16(len(path)) + path


def create(source: Source) -> bytes:
    name = source.name()
    contexts = b""
    if source.maybe(0.4):
        contexts = _create_contexts(source)
    at = HEADER + 56
    padded = _padded(name) if contexts else name
    body = u16(57) + bytes([0, source.number(8, 0, 0, 1, 8, 9, 0xFF)])
    body += u32(source.number(32, 2)) + bytes(16) + u32(source.number(32, *ACCESS))
    body += u32(source.number(32, 0, 0x80, 0x20, 0x2)) + u32(source.number(32, 0, 1, 3, 7, 7, 7))
    body += u32(source.number(32, 0, 1, 2, 3, 3, 3, 3, 4, 5))
    body += u32(source.number(32, 0, 0, 0, 0, 1, 0x40, 0x1000, 0x200000))
    body += u16(at) + u16(len(name))
    body += u32(at + len(padded) if contexts else 0) + u32(len(contexts))
    return body + (padded + contexts or b"\0")


def _create_contexts(source: Source) -> bytes:
    made = []
    count = source.random.randrange(1, 4)
    for position in range(count):
        name, data = source.pick(CONTEXTS), source.blob(60)
        if name == b"RqLs":
            data = (
                source.pick((b"k" * 16, b"l" * 16)) + u32(source.number(32, 1, 3, 5, 7)) + bytes(12)
            )
            data += source.pick((b"", bytes(20)))
        elif name in (b"DH2Q",):
            data = bytes(16) + source.random.randbytes(16)
        elif name == b"DHnQ":
            data = bytes(16)
        elif name == b"DHnC":
            data = source.file()
        elif name == b"SecD":
            data = _security_descriptor(source)
        elif name == b"ExtA":
            data = _extended_attributes(source)
        label = _padded(name)
        head = u16(16) + u16(len(name)) + u16(0) + u16(16 + len(label)) + u32(len(data))
        whole = _padded(bytes(4) + head + label + data)
        following = len(whole) if position + 1 < count else source.number(32, 0)
        made.append(u32(following) + whole[4:])
    return b"".join(made)


def _security_descriptor(source: Source) -> bytes:
    sid = b"\1\2" + b"\0\0\0\0\0\5" + u32(32) + u32(544)
    ace = bytes([source.pick((0, 1, 5)), 0]) + u16(8 + len(sid))
    ace += u32(source.number(32, 0x1F01FF)) + sid
    count = source.number(16, 1)
    dacl = b"\2\0" + u16(8 + len(ace)) + u16(count) + u16(0) + ace
    flags = source.number(16, 0x8004)
    offsets = (20, 20 + len(sid), 0, 20 + 2 * len(sid))
    return (
        b"\1\0"
        + u16(flags)
        + b"".join(u32(source.number(32, one)) for one in offsets)
        + 2 * sid
        + dacl
    )


def _extended_attributes(source: Source) -> bytes:
    name, value = source.pick((b"user.a", b"EA", b"", b"../x")), source.blob(30)
    return (
        u32(source.number(32, 0)) + bytes([0, len(name)]) + u16(len(value)) + name + b"\0" + value
    )


def close(source: Source) -> bytes:
    return u16(24) + u16(source.pick((0, 1))) + u32(0) + source.file()


def flush(source: Source) -> bytes:
    return u16(24) + u16(0) + u32(0) + source.file()


def read(source: Source) -> bytes:
    body = (
        u16(49) + bytes([0x50, source.number(8, 0)]) + u32(source.length()) + u64(source.offset())
    )
    body += source.file() + u32(source.number(32, 0)) + u32(source.number(32, 0, 0, 0, 1, 2))
    return body + u32(0) + _descriptors(source)


def _descriptors(source: Source) -> bytes:
    """The Channel's buffer descriptors, which mean nothing where the request is not about RDMA."""
    if source.maybe(0.8):
        return u16(0) + u16(0) + b"\0"
    count = source.random.randrange(1, 4)
    entries = b"".join(
        u64(source.number(64)) + u32(source.number(32)) + u32(source.length()) for _ in range(count)
    )
    return u16(source.number(16, HEADER + 48)) + u16(source.number(16, len(entries))) + entries


def write(source: Source) -> bytes:
    data = source.blob(400)
    body = u16(49) + u16(source.number(16, HEADER + 48)) + u32(source.number(32, len(data)))
    body += u64(source.offset()) + source.file() + u32(source.number(32, 0, 0, 0, 1, 2)) + u32(0)
    return (
        body
        + u16(source.number(16, 0))
        + u16(source.number(16, 0))
        + u32(source.pick((0, 1)))
        + data
    )


def lock(source: Source) -> bytes:
    count = source.pick((0, 1, 1, 1, 2, 3))
    body = u16(48) + u16(source.number(16, count)) + u32(source.number(32, 0)) + source.file()
    for _ in range(count):
        flags = source.number(32, 1, 2, 4, 0x11, 0x12, 0x12)
        body += u64(source.offset()) + u64(source.number(64, 0, 1, 100)) + u32(flags) + u32(0)
    return body + (bytes(24) if not count else b"")


def ioctl(source: Source) -> bytes:
    code = source.number(32, *IOCTLS)
    data = _ioctl_input(source, code)
    body = u16(57) + u16(0) + u32(code) + source.pick((source.file(), source.file(), ANY_ID))
    body += (
        u32(source.number(32, HEADER + 56))
        + u32(source.number(32, len(data)))
        + u32(source.number(32, 0))
    )
    body += (
        u32(source.number(32, 0))
        + u32(0)
        + u32(source.length())
        + u32(source.number(32, 1))
        + u32(0)
    )
    return body + data


def _ioctl_input(source: Source, code: int) -> bytes:
    if code in (0x001440F2, 0x001480F2):
        key = source.pick(source.resume_keys) if source.resume_keys else bytes(24)
        chunks = b"".join(
            u64(source.offset()) + u64(source.offset()) + u32(source.length()) + u32(0)
            for _ in range(source.random.randrange(3))
        )
        return key + u32(source.number(32, len(chunks) // 24)) + u32(0) + chunks
    if code in (0x000980C8, 0x000940CF):
        return u64(source.offset()) + u64(source.offset())
    if code == 0x00140204:
        return (
            u32(0x7F)
            + source.random.randbytes(16)
            + u16(1)
            + u16(source.number(16, 1))
            + u16(0x311)
        )
    if code == 0x00098344:
        return source.file() + u64(source.offset()) + u64(source.offset()) + u64(source.offset())
    if code == 0x0011C017:
        return _rpc(source)
    return source.blob(80)


def _rpc(source: Source) -> bytes:
    """A DCE/RPC fragment: bind or request (C706, chapter 12)."""
    kind = source.number(8, 11, 0, 0)
    body = source.blob(120)
    if kind == 11:
        syntax = bytes.fromhex("c84f324b7016d30112785a47bf6ee18803000000")
        transfer = bytes.fromhex("045d888aeb1cc9119fe808002b10486002000000")
        body = u16(4280) + u16(4280) + u32(0) + u32(1) + u16(0) + u16(1) + syntax + transfer
    elif source.maybe(0.7):
        body = u32(40) + u16(0) + u16(source.number(16, 15, 16, 21)) + source.blob(80)
    length = source.number(16, 16 + len(body))
    return (
        bytes([5, 0, kind, source.number(8, 3)]) + u32(0x10) + u16(length) + u16(0) + u32(1) + body
    )


def echo(source: Source) -> bytes:
    return u16(source.number(16, 4)) + u16(0)


def query_directory(source: Source) -> bytes:
    pattern = source.pick(PATTERNS).encode("utf-16-le")
    body = u16(33) + bytes([source.number(8, *DIRECTORY_CLASSES), source.number(8, 0, 1, 2, 4, 16)])
    body += u32(source.number(32, 0)) + source.file() + u16(source.number(16, HEADER + 32))
    return body + u16(source.number(16, len(pattern))) + u32(source.length()) + pattern


def change_notify(source: Source) -> bytes:
    body = u16(32) + u16(source.number(16, 0, 1)) + u32(source.length()) + source.file()
    return body + u32(source.number(32, 1, 0x17, 0xFFF)) + u32(0)


def query_info(source: Source) -> bytes:
    data = _extended_attributes(source) if source.maybe(0.2) else b""
    kind = source.number(8, 1, 1, 2, 3, 4)
    number = source.pick(FILE_CLASSES) if source.maybe(0.9) else source.number(8)
    body = (
        u16(41)
        + bytes([kind, number])
        + u32(source.length())
        + u16(source.number(16, HEADER + 40))
        + u16(0)
    )
    body += (
        u32(source.number(32, len(data))) + u32(source.number(32, 7)) + u32(source.number(32, 0))
    )
    return body + source.file() + data


def set_info(source: Source) -> bytes:
    kind = source.number(8, 1, 1, 1, 2, 3, 4)
    number = source.pick(FILE_CLASSES)
    data = source.blob(60)
    if kind == 3:
        data = _security_descriptor(source)
    elif number in (10, 11, 65, 64):
        name = source.name()
        data = (
            bytes([source.pick((0, 1))])
            + bytes(7)
            + u64(0)
            + u32(source.number(32, len(name)))
            + name
        )
    elif number in (13, 64):
        data = bytes([source.pick((0, 1))])
    elif number in (19, 20, 14):
        data = u64(source.number(64, 0, 1, 4096, 1 << 20))
    elif number == 4:
        data = (
            b"".join(u64(source.number(64, 0, 1 << 57)) for _ in range(4))
            + u32(source.number(32, 0x80))
            + u32(0)
        )
    elif number == 15:
        data = _extended_attributes(source)
    body = (
        u16(33)
        + bytes([kind, number])
        + u32(source.number(32, len(data)))
        + u16(source.number(16, HEADER + 32))
    )
    return body + u16(0) + u32(source.number(32, 7)) + source.file() + data


def oplock_break(source: Source) -> bytes:
    if source.maybe(0.5):
        return u16(24) + bytes([source.number(8, 0, 1, 8), 0]) + u32(0) + source.file()
    key = source.pick((b"k" * 16, b"l" * 16))
    return (
        u16(36)
        + u16(0)
        + u32(source.number(32, 0))
        + key
        + u32(source.number(32, 0, 1, 3))
        + u64(0)
    )


def tree_disconnect(source: Source) -> bytes:
    return u16(4) + u16(0)


def cancel(source: Source) -> bytes:
    return u16(4) + u16(0)


PRODUCTIONS: dict[int, Callable[[Source], bytes]] = {
    0x00: negotiate,
    0x01: session_setup,
    0x02: logoff,
    0x03: tree_connect,
    0x04: tree_disconnect,
    0x05: create,
    0x06: close,
    0x07: flush,
    0x08: read,
    0x09: write,
    0x0A: lock,
    0x0B: ioctl,
    0x0C: cancel,
    0x0D: echo,
    0x0E: query_directory,
    0x0F: change_notify,
    0x10: query_info,
    0x11: set_info,
    0x12: oplock_break,
}

WEIGHTS = {
    0x05: 30,
    0x06: 8,
    0x08: 8,
    0x09: 8,
    0x0A: 6,
    0x0B: 12,
    0x0E: 8,
    0x10: 14,
    0x11: 14,
    0x0F: 2,
}
"""How often a command comes; one of each otherwise, and those that end sessions seldom."""

RARE = {0x00: 0.1, 0x01: 0.2, 0x02: 0.05, 0x04: 0.2}

CANCEL = 0x0C
"""The only command that is not answered ([MS-SMB2] 3.3.5.16)."""

_COMMANDS = tuple(PRODUCTIONS)
_CHANCES = tuple(WEIGHTS.get(one, RARE.get(one, 1)) for one in _COMMANDS)

DISTORTED = 0.15
"""Of the bodies, how many are distorted after they were made."""


def command(source: Source) -> int:
    """Which command comes next; now and then one that nobody knows."""
    if source.maybe(0.005):
        return source.number(16)
    return source.random.choices(_COMMANDS, _CHANCES)[0]


def body(source: Source, number: int) -> bytes:
    """A body for a command, perhaps distorted."""
    source.tree = None
    made = PRODUCTIONS.get(number, lambda source: source.blob())(source)
    return distort(source, made) if source.maybe(DISTORTED) else made


def distort(source: Source, message: bytes) -> bytes:
    """One to three things wrong with it."""
    for _ in range(source.random.randrange(1, 4)):
        message = source.pick(_DISTORTIONS)(source, message)
    return message


def _flip(source: Source, message: bytes) -> bytes:
    if not message:
        return message
    changed = bytearray(message)
    changed[source.random.randrange(len(changed))] ^= 1 << source.random.randrange(8)
    return bytes(changed)


def _edge(source: Source, message: bytes) -> bytes:
    """A number somewhere becomes one at an edge."""
    width = source.pick((2, 4, 8))
    if len(message) < width:
        return message
    at = source.random.randrange(0, len(message) - width + 1) & ~1
    value = source.pick(EDGES) & (1 << 8 * width) - 1
    return message[:at] + value.to_bytes(width, "little") + message[at + width :]


def _truncate(source: Source, message: bytes) -> bytes:
    return message[: source.random.randrange(len(message) + 1)]


def _extend(source: Source, message: bytes) -> bytes:
    return message + source.blob(source.pick((8, 100, 3000)))


def _repeat(source: Source, message: bytes) -> bytes:
    start = source.random.randrange(len(message) + 1)
    end = source.random.randrange(start, len(message) + 1)
    return message[:end] + message[start:]


_DISTORTIONS = (_flip, _flip, _edge, _edge, _edge, _truncate, _extend, _repeat)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)
