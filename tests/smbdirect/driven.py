"""The C engine and the reference engine side by side: both are told the same, and must do the same.

`Both` plays the queue pair and the owner of one connection. Every method is one event; after each, what the engines
posted, delivered and armed is compared, and is left in `did` in the reference's words.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from cffi import FFI

from smbdirect.close_reason import CloseReason
from smbdirect.connection import SECOND, Config, Connection, Role, State
from smbdirect.events import (
    Action,
    Closed,
    Completion,
    Deliver,
    Disconnect,
    Established,
    Expose,
    Exposed,
    Invalidated,
    Limits,
    Post,
    PostReceives,
    Revoke,
    Revoked,
    Transferred,
    Writable,
)
from smbdirect.pdu import BufferDescriptor, DataTransfer, NegotiateRequest, NegotiateResponse
from smbdirect.rdma import Direction, Refused, Transfer
from smbdirect.sendqueue import Opcode, Status, Tag, Work

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HERE = ROOT / "tests" / "csrc"
BUILD = ROOT / "build" / "tests"
REGION_SIZE = 1 << 16
BATCH = 64
"""FABRIC_COMPLETION_BATCH"""
START = 1000 * SECOND
DEFAULT_CONFIG = Config()
DEFAULT_LIMITS = Limits()
REQUEST = NegotiateRequest(200, 8192, 8192, 1 << 20)
RESPONSE = NegotiateResponse(255, 255, 0, 8 << 20, 8192, 8192, 1 << 20)


def build() -> ModuleType:
    """Compiles the C engine with its test-only driver, if anything is newer than the last time."""
    names = ("smbd_*.c", "fabric_memory*.c", "trace.c", "capture.c")
    sources = [file for name in names for file in sorted(CSRC.glob(name))]
    sources.append(HERE / "smbd_driven.c")
    headers = [*CSRC.glob("*.h"), *HERE.glob("*.h"), Path(__file__)]
    newest = max(file.stat().st_mtime for file in (*sources, *headers))
    builder = FFI()
    builder.cdef("struct buffer_descriptor { uint64_t offset; uint32_t token, length; };")
    builder.cdef("enum { BUFFER_DESCRIPTOR_SIZE = 16 };")
    for header in (CSRC / "smbd_wire.h", HERE / "smbd_driven.h"):
        lines = header.read_text().splitlines()
        builder.cdef("\n".join(line for line in lines if not line.startswith("#")))
    builder.set_source(
        "_smbd_driven",
        '#include "smbd_driven.h"\n#include "smbd_wire.h"',
        sources=[str(file) for file in sources],
        include_dirs=[str(CSRC), str(HERE)],
        define_macros=[("_GNU_SOURCE", None)],
        extra_compile_args=["-std=c11", "-O1", "-g", "-Wall", "-Wextra"],
    )
    BUILD.mkdir(parents=True, exist_ok=True)
    made = list(BUILD.glob("_smbd_driven*.so"))
    if not made or made[0].stat().st_mtime < newest:
        made = [Path(builder.compile(tmpdir=str(BUILD)))]
    return _load(made[0])


def _load(path: Path) -> ModuleType:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("_smbd_driven", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True, eq=False)
class Posted:
    """One work request that is not finished, and its number in C."""

    number: int
    work: Work


class Both:
    def __init__(
        self,
        module: ModuleType,
        role: Role = Role.SERVER,
        config: Config = DEFAULT_CONFIG,
        limits: Limits = DEFAULT_LIMITS,
        private_data: bytes | None = None,
    ) -> None:
        self.lib, self.ffi = module.lib, module.ffi
        self.now = START
        self.role = role
        self.did: list[Action] = []
        self.posted: list[Posted] = []
        self.delivered: dict[int, bytes] = {}
        self.tokens: list[int] = []
        """Of all that was ever exposed."""
        self.operations = itertools.count(1)
        self.memory = bytearray(
            b"".join(number.to_bytes(8, "big") for number in range(REGION_SIZE // 8))
        )
        self.receives = 0
        self._numbers = itertools.count(1)
        self._deliveries = itertools.count()
        self._pending: list[Completion] = []
        self._exposing: list[int] = []
        self._ending: tuple[CloseReason, str] | None = None
        self._establish = role is Role.SERVER
        self._private_data = private_data
        self.closed = False
        self._create(config, limits)

    def _create(self, config: Config, limits: Limits) -> None:
        names = {name: getattr(config, name) for name in config.__dataclass_fields__}
        queue_pair = {name: getattr(limits, name) for name in limits.__dataclass_fields__}
        blob = self._private_data or b""
        made = self.ffi.new(
            "struct driven_config *",
            {
                "server": self.role is Role.SERVER,
                "iwarp": self._private_data is not None,
                **names,
                **queue_pair,
            },
        )
        self.c = self.lib.driven_create(made, REGION_SIZE, blob, len(blob), self.now)
        self.ffi.buffer(self.lib.driven_region(self.c), REGION_SIZE)[:] = self.memory
        self.limits = limits
        if self.role is Role.SERVER:  # asked for when the queue pair is accepted
            self.limits = Limits(
                min(512, limits.send_queue),
                min(config.receive_credit_max, limits.receive_queue),
                min(config.read_depth, limits.initiator_depth),
                min(config.max_read_write_size, limits.transfer_bytes),
            )
        self.python = Connection(self.role, config, self.now)
        self._compare(self._taken(self.python.begin()))

    def destroy(self) -> None:
        self.lib.driven_destroy(self.c)

    # Comparing.

    def _compare(self, actions: list[Action]) -> None:
        """`actions` are the reference's, as the queue pair took them; the C engine's are asked for."""
        self.did = actions
        mine = [_plain(action) for action in actions if type(action) in _COMPARED]
        theirs = self._c_actions()
        assert theirs == mine, f"C: {theirs}\nreference: {mine}"
        self._compare_facts()

    def _taken(self, actions: list[Action]) -> list[Action]:
        """What the queue pair takes: nothing after it was told to end."""
        taken = []
        for action in actions:
            if isinstance(action, Disconnect):
                self._end(CloseReason.BY_WORKER, "disconnected on this side")
            if not (self._ending and isinstance(action, (Post, PostReceives, Expose, Revoke))):
                self._follow(action)
                taken.append(action)
        return taken

    def _end(self, reason: CloseReason, words: str) -> None:
        if not self._ending:
            self._ending = reason, words
            self.posted.clear()
            self.receives = 0

    def _follow(self, action: Action) -> None:
        if isinstance(action, PostReceives):
            self.receives += action.count
        elif isinstance(action, Post):
            self.posted += [Posted(next(self._numbers), work) for work in action.chain]
        elif isinstance(action, Expose):
            self._pending.append(Completion(Tag.EXPOSE, action.index))
        elif isinstance(action, Revoke):
            self._pending.append(Completion(Tag.REVOKE, action.index))
        elif isinstance(action, Exposed) and action.descriptor:
            self.tokens.append(action.descriptor.token)
        elif isinstance(action, Deliver):
            self.delivered[next(self._deliveries)] = action.message
        elif isinstance(action, Closed):
            self.closed = True

    def _records(self) -> list[Any]:
        ret = self.ffi.new("const struct driven_record **")
        count = self.lib.driven_records(self.c, ret)
        return [ret[0][place] for place in range(count)]

    def _c_actions(self) -> list[tuple[Any, ...]]:
        """The C engine's records, requests of one call as one chain."""
        lib, actions = self.lib, []
        plain = {
            lib.DRIVEN_ESTABLISHED: lambda r: (Established,),
            lib.DRIVEN_DELIVER: lambda r: (Deliver, self._bytes(r)),
            lib.DRIVEN_TRANSFERRED: lambda r: (Transferred, r.id, r.status, r.offset),
            lib.DRIVEN_EXPOSED: lambda r: (Exposed, r.id, r.status),
            lib.DRIVEN_REVOKED: lambda r: (Revoked, r.id, r.status),
            lib.DRIVEN_INVALIDATED: lambda r: (Invalidated, r.token),
            lib.DRIVEN_WRITABLE: lambda r: (Writable,),
            lib.DRIVEN_CLOSED: lambda r: (Closed, r.status, self._bytes(r).decode()),
        }
        by_call = itertools.groupby(self._records(), key=lambda r: r.call or -id(r))
        for _, group in by_call:
            records = list(group)
            if records[0].kind == lib.DRIVEN_POST:
                actions.append((Post, *(self._work(record) for record in records)))
            else:
                actions += [plain[record.kind](record) for record in records]
        return actions

    def _bytes(self, record: Any) -> bytes:
        return bytes(self.ffi.buffer(record.bytes, record.length))

    def _work(self, r: Any) -> tuple[Any, ...]:
        return (r.id, r.opcode, bool(r.signalled), r.offset, r.token, self._bytes(r))

    def facts(self) -> dict[str, int]:
        """What the C engine says of itself."""
        ret = self.ffi.new("struct driven_facts *")
        self.lib.driven_facts(self.c, ret)
        fields = self.ffi.typeof("struct driven_facts").fields
        return {name: getattr(ret, name) for name, _ in fields}

    def _compare_facts(self) -> None:
        python, statistics = self.python, self.python.statistics
        expected = {name: getattr(statistics, name) for name in statistics.__dataclass_fields__}
        expected |= {
            "state": python.state,
            "receives": self.receives,
            "send_credits": python.credits.send,
            "receive_credits": python.credits.receive,
            "receive_credit_target": python.credits.receive_target,
            "writable": python.writable(),
            "max_send_size": python.max_send_size,
            "max_receive_size": python.max_receive_size,
            "max_fragmented_send_size": python.max_fragmented_send_size,
            "max_read_write_size": python.max_read_write_size,
            "read_depth": python.rdma_transfers.depth,
            "deadline": python.deadline,
            "rdma_written_bytes": python.rdma_transfers.written_bytes,
            "rdma_read_bytes": python.rdma_transfers.read_bytes,
            "queued_bytes": python.queued_bytes,
            "unconsumed_bytes": python.unconsumed,
        }
        facts = self.facts()
        unlike = {
            name: (facts[name], expected[name]) for name in facts if facts[name] != expected[name]
        }
        assert not unlike, f"C and reference disagree: {unlike}"

    def _both(self, error: int, call: Any) -> bool:
        """`call` tells the reference; `error` is what the C engine said."""
        try:
            actions = call()
        except Refused as refused:
            assert error == -refused.errno
            self._compare([])
            return False
        assert error == 0
        self._compare(self._taken(actions))
        return True

    # The queue pair's side.

    def establish(self) -> None:
        if self.role is Role.CLIENT:
            self.lib.driven_establish(self.c)
            self._establish = True
        self.deliver()

    def arrive(self, message: bytes) -> bool:
        """A Send of the peer, handed over by `deliver`. False: there is no receive that holds it."""
        if not self.receives or len(message) > self.python.config.max_receive_size:
            assert self.lib.driven_arrive(self.c, message, len(message)) < 0
            return False
        assert self.lib.driven_arrive(self.c, message, len(message)) == 0
        self._arrived(Completion(Tag.RECEIVE, message=message))
        return True

    def arrive_invalidating(self, message: bytes, token: int) -> bool:
        """A Send with Invalidate. False: nothing is exposed by this token, or no receive holds it."""
        result = self.lib.driven_arrive_invalidating(self.c, message, len(message), token)
        if result == 0:
            self._arrived(Completion(Tag.RECEIVE, message=message, invalidated=token))
        return bool(result == 0)

    def _arrived(self, completion: Completion) -> None:
        self.receives -= 1
        self._pending.append(completion)

    def finish(self, posted: Posted, status: Status = Status.OK, data: bytes = b"") -> None:
        """A work request is carried out; a Send or Write, with all Sends and Writes before it."""
        read = posted.work.opcode is Opcode.READ
        if read and status is Status.OK:
            posted.work.memory[:] = data  # type: ignore[index]
        for other in list(self.posted):
            before = other.work.opcode is not Opcode.READ and other.number < posted.number
            if other is posted or (before and not read):
                self.posted.remove(other)
                self._completed(other, status if other is posted else Status.OK)
        self.lib.driven_finish(self.c, posted.number, status, data or self.ffi.NULL)
        if status is not Status.OK:
            refused = status is Status.REMOTE_ACCESS
            reason = CloseReason.REMOTE_ACCESS if refused else CloseReason.PEER_LOST
            self._end(reason, "a work request failed")

    def _completed(self, posted: Posted, status: Status) -> None:
        if posted.work.signalled or status is not Status.OK:
            self._pending.append(Completion(posted.work.tag, posted.work.index, status))

    def lose(self, reason: CloseReason = CloseReason.PEER_LOST) -> None:
        self.lib.driven_lose(self.c, reason)
        self._end(reason, "lost")

    def deliver(self) -> None:
        """Hands over all that has happened on the queue pair."""
        self.lib.driven_deliver(self.c, self.now)
        descriptors = self._descriptors()
        actions: list[Action] = []
        if self._establish:
            self._establish = False
            blob = self._private_data or b""
            actions += self._taken(self.python.established(self.limits, self.now, blob))
        while self._pending:
            batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
            batch = [
                replace(one, descriptor=descriptors.pop(0)) if one.tag is Tag.EXPOSE else one
                for one in batch
            ]
            actions += self._taken(self.python.completions(batch, self.now))
        if self._ending and not self.closed:
            actions += self._taken(self.python.disconnected(*self._ending, self.now))
        self._compare(actions)

    def _descriptors(self) -> list[BufferDescriptor]:
        """Of the windows that the fabric has just exposed."""
        return [
            BufferDescriptor(record.offset, record.token, record.length)
            for record in self._records()
            if record.kind == self.lib.DRIVEN_EXPOSED and record.status == Status.OK
        ]

    def run(self) -> None:
        """Everything that is posted is carried out; Reads bring zeros."""
        while self.posted and not self.closed:
            for posted in list(self.posted):
                if posted in self.posted:
                    length = len(posted.work.memory)
                    read = posted.work.opcode is Opcode.READ
                    self.finish(posted, data=bytes(length) if read else b"")
            self.deliver()

    # The owner's side.

    def send(self, message: bytes, invalidate: int | None = None) -> bool:
        error = self.lib.driven_send(
            self.c, message, len(message), invalidate is not None, invalidate or 0, self.now
        )
        return self._both(error, lambda: self.python.send(message, self.now, invalidate))

    def rdma(
        self, direction: Direction, offset: int, length: int, descriptors: list[BufferDescriptor]
    ) -> bool:
        operation = next(self.operations)
        error = self.lib.driven_rdma(
            self.c,
            operation,
            direction is Direction.READ,
            offset,
            length,
            b"".join(descriptor.pack() for descriptor in descriptors),
            len(descriptors),
            self.now,
        )
        memory = memoryview(self.memory)[offset : offset + length]
        transfer = Transfer(operation, direction, memory, descriptors)
        return self._both(error, lambda: self.python.rdma(transfer, self.now))

    def expose(self, offset: int, length: int, access: int) -> bool:
        operation = next(self.operations)
        error = self.lib.driven_expose(self.c, operation, offset, length, access, self.now)
        memory = memoryview(self.memory)[offset : offset + length]
        return self._both(error, lambda: self.python.expose(operation, memory, access, self.now))

    def revoke(self, token: int) -> bool:
        operation = next(self.operations)
        error = self.lib.driven_revoke(self.c, operation, token, self.now)
        return self._both(error, lambda: self.python.revoke(operation, token, self.now))

    def consume(self, number: int) -> None:
        message = self.delivered.pop(number)
        self.lib.driven_consumed(self.c, number, self.now)
        self._compare(self._taken(self.python.consumed(message, self.now)))

    def cork(self) -> None:
        self.lib.driven_cork(self.c)
        self.python.cork()

    def uncork(self) -> None:
        self.lib.driven_uncork(self.c, self.now)
        self._compare(self._taken(self.python.uncork(self.now)))

    def close(self, graceful: bool, reason: CloseReason = CloseReason.BY_WORKER) -> None:
        self.lib.driven_close(self.c, reason, graceful, self.now)
        self._compare(self._taken(self.python.close(reason, graceful, self.now)))

    def wait(self, span: int) -> None:
        """Time passes; both are called when their deadline has come."""
        self.now += span
        if 0 < self.python.deadline <= self.now:
            self.lib.driven_on_time(self.c, self.now)
            self._compare(self._taken(self.python.on_time(self.now)))

    @property
    def state(self) -> State:
        return self.python.state


_COMPARED = {
    Post, Established, Deliver, Transferred, Exposed, Revoked, Invalidated, Writable, Closed,
}  # fmt: skip


def _plain(action: Action) -> tuple[Any, ...]:
    match action:
        case Post(chain):
            return (Post, *(_plain_work(work) for work in chain))
        case Deliver(message):
            return (Deliver, message)
        case Transferred(operation, status, count):
            return (Transferred, operation, status, count)
        case Exposed(operation, status) | Revoked(operation, status):
            return (type(action), operation, status)
        case Invalidated(token):
            return (Invalidated, token)
        case Closed(reason, words):
            return (Closed, reason, words)
    return (type(action),)


def _plain_work(work: Work) -> tuple[Any, ...]:
    number = work.tag << 56 | work.index
    token, offset = work.remote_token, work.remote_offset
    return (number, work.opcode, work.signalled, offset, token, bytes(work.memory))


# The words of tests that play a peer by hand.


def sent(both: Both) -> list[bytes]:
    """What left with the last event."""
    posts = [action for action in both.did if isinstance(action, Post)]
    return [
        bytes(work.memory)
        for post in posts
        for work in post.chain
        if work.opcode in (Opcode.SEND, Opcode.SEND_INVALIDATE)
    ]


def transfers(both: Both) -> list[DataTransfer]:
    return [DataTransfer.parse(message) for message in sent(both)]


def messages(both: Both) -> list[bytes]:
    """What was delivered with the last event."""
    return [action.message for action in both.did if isinstance(action, Deliver)]


def told(both: Both, *peers: DataTransfer) -> None:
    for message in peers:
        assert both.arrive(message.pack())
    both.deliver()


def closed(both: Both) -> Closed:
    """Delivers until the end, which must come."""
    both.run()
    if not both.closed:
        both.deliver()
    last = both.did[-1]
    assert isinstance(last, Closed)
    return last
