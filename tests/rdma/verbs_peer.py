"""A client that shares nothing with the proxy but the specification: the reference engine on pyverbs.

    test ── VerbsPeer ── smbdirect.connection ── pyverbs ── adapter ═══► rdmaproxy

Everything happens in the test's asyncio loop, step by step as rdma_cm and the completion queue tell:

  1. address resolved, route resolved     the queue pair is made, its first receive posted, the request goes out
  2. connect response                     ready to receive and to send: the engine negotiates
  3. completions                          to the engine; its actions become work requests
  4. disconnected                         the engine is told, and everything is given back

pyverbs does not show the descriptors of its event channels, and its calls wait with the interpreter's lock held: so the
descriptors are looked up in /proc, and nothing is asked for before they are readable.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pyverbs import cm_enums, enums
from pyverbs.cmid import CMID, AddrInfo, CMEvent, CMEventChannel, ConnParam
from pyverbs.cq import CQ, CompChannel
from pyverbs.mr import MR
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, RecvWR, SendWR

from smbdirect.connection import Config, Connection, Role
from smbdirect.events import (
    Action,
    Closed,
    CloseReason,
    Completion,
    Deliver,
    Disconnect,
    Established,
    Expose,
    Exposed,
    Limits,
    Post,
    PostReceives,
    Revoke,
    Revoked,
)
from smbdirect.pdu import BufferDescriptor
from smbdirect.sendqueue import SEND_QUEUE, Status, Tag, Work

PATIENCE = 60.0
"""Seconds for what must happen; a transport that is silent gives up after about twenty."""
RECEIVES = 255
RAW_SENDS = 320
"""Places for messages that a test sends past the engine."""
READ_DEPTH = 16
"""RDMA Reads of the proxy that are served at a time."""
RNR_RETRY = 1
"""A receive that is missing is to be seen, not to be waited for."""
TAG_SHIFT = 56
RAW = 0
"""The tag of what the engine knows nothing of."""

_STATUS = {
    enums.IBV_WC_SUCCESS: Status.OK,
    enums.IBV_WC_WR_FLUSH_ERR: Status.FLUSHED,
    enums.IBV_WC_REM_ACCESS_ERR: Status.REMOTE_ACCESS,
}


class VerbsPeer:
    """One connection. `messages`, `descriptors` and `closed` are what the engine told its owner."""

    def __init__(self, config: Config, greeting: bytes | None, mute: bool) -> None:
        self.engine = Connection(Role.CLIENT, config, time.monotonic_ns())
        self.greeting = greeting
        """Sent instead of the engine's Negotiate Request."""
        self.mute = mute
        """Nothing that the engine says after it is sent."""
        self.messages: list[bytes] = []
        self.descriptors: dict[int, BufferDescriptor] = {}
        self.revoked: set[int] = set()
        self.established = False
        self.closed: Closed | None = None
        self._size = config.max_receive_size
        self._operations = itertools.count(1)
        self._regions: dict[int, MR] = {}
        self._raw = itertools.cycle(range(RAW_SENDS))
        self._vanished = False
        self._loop = asyncio.get_running_loop()
        self._progress = asyncio.Event()
        self._channel, self._channel_fd = _made("infiniband/rdma_cm", CMEventChannel)
        self._id = CMID(creator=self._channel)
        self._queue_pair: QP | None = None
        self._loop.add_reader(self._channel_fd, self._on_event)

    @classmethod
    async def connect(
        cls,
        address: str,
        port: int,
        config: Config | None = None,
        *,
        greeting: bytes | None = None,
        mute: bool = False,
    ) -> VerbsPeer:
        """Returns when SMB Direct is negotiated, or the connection ended instead."""
        peer = cls(config or Config(), greeting, mute)
        where = AddrInfo(dst=address, dst_service=str(port), port_space=cm_enums.RDMA_PS_TCP)
        peer._id.resolve_addr(where)
        await peer.until(lambda: peer.established or peer.closed is not None)
        return peer

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not happened():
                self._progress.clear()
                await self._progress.wait()

    # What a test asks for.

    def send(self, message: bytes) -> None:
        self._do(self.engine.send(message, time.monotonic_ns()))

    async def receive(self) -> bytes:
        await self.until(lambda: bool(self.messages))
        message = self.messages.pop(0)
        self._do(self.engine.consumed(message, time.monotonic_ns()))
        return message

    async def expose(self, memory: memoryview, access: int) -> BufferDescriptor:
        operation = next(self._operations)
        self._do(self.engine.expose(operation, memory, access, time.monotonic_ns()))
        await self.until(lambda: operation in self.descriptors)
        return self.descriptors[operation]

    async def revoke(self, descriptor: BufferDescriptor) -> None:
        operation = next(self._operations)
        self._do(self.engine.revoke(operation, descriptor.token, time.monotonic_ns()))
        await self.until(lambda: operation in self.revoked)

    def withdraw(self) -> None:
        """Takes all exposed memory away, and tells nobody."""
        for region in self._regions.values():
            region.close()
        self._regions.clear()

    def send_raw(self, message: bytes) -> None:
        """A Send that the engine knows nothing of."""
        place = next(self._raw)
        self._post_send(self._raw_memory, place, RAW << TAG_SHIFT | place, message, signalled=True)

    def leave(self) -> None:
        """Ends the connection at once, whatever is under way."""
        self._do(self.engine.close(CloseReason.BY_WORKER, False, time.monotonic_ns()))

    def vanish(self) -> None:
        """Nothing is sent and nothing is answered any more, not even by the adapter."""
        self._vanished = True
        self._stop_queue_pair()

    def close(self) -> None:
        """Gives everything back, in the order in which verbs allows it."""
        if self._channel_fd < 0:
            return
        self._loop.remove_reader(self._channel_fd)
        if self._queue_pair is not None:
            self._loop.remove_reader(self._completion_fd)
            self._queue_pair.close()
            self._completions.close()
            self._completion_channel.close()
            self.withdraw()
            for memory in (self._receive_memory, self._send_memory, self._raw_memory):
                memory.close()
        self._id.close()
        self._channel.close()
        self._channel_fd = -1

    # rdma_cm.

    def _on_event(self) -> None:
        event = CMEvent(self._channel)
        kind, words = event.event_type, event.event_str()
        event.ack_cm_event()
        if kind == cm_enums.RDMA_CM_EVENT_ADDR_RESOLVED:
            self._id.resolve_route()
        elif kind == cm_enums.RDMA_CM_EVENT_ROUTE_RESOLVED:
            self._open_queue_pair()
        elif kind == cm_enums.RDMA_CM_EVENT_CONNECT_RESPONSE:
            self._be_ready()
        elif kind != cm_enums.RDMA_CM_EVENT_TIMEWAIT_EXIT:
            self._end(CloseReason.BY_PEER, words)
        self._progress.set()

    def _open_queue_pair(self) -> None:
        context = self._id.context
        self._completion_channel, self._completion_fd = _made(
            "infinibandevent", lambda: CompChannel(context)
        )
        room = SEND_QUEUE + RAW_SENDS + RECEIVES
        self._completions = CQ(context, room, None, self._completion_channel, 0)
        self._completions.req_notify()
        capacity = QPCap(max_send_wr=SEND_QUEUE + RAW_SENDS, max_recv_wr=RECEIVES)
        wanted = QPInitAttr(
            qp_type=enums.IBV_QPT_RC, scq=self._completions, rcq=self._completions, cap=capacity
        )
        self._queue_pair = QP(self._id.pd, wanted)
        self._receive_memory = self._memory(RECEIVES)
        self._send_memory = self._memory(SEND_QUEUE)
        self._raw_memory = self._memory(RAW_SENDS)
        self._free = deque(range(RECEIVES))
        self._modify(enums.IBV_QPS_INIT)
        self._loop.add_reader(self._completion_fd, self._on_completions)
        self._do(self.engine.begin())
        self._id.connect(
            ConnParam(
                resources=READ_DEPTH,
                depth=READ_DEPTH,
                rnr_retry=RNR_RETRY,
                qp_num=self._queue_pair.qp_num,
            )
        )

    def _memory(self, count: int) -> MR:
        return MR(self._id.pd, count * self._size, enums.IBV_ACCESS_LOCAL_WRITE)

    def _modify(self, state: int) -> None:
        assert self._queue_pair is not None
        attributes, mask = self._id.init_qp_attr(state)
        if state == enums.IBV_QPS_INIT:
            attributes.qp_access_flags = (
                enums.IBV_ACCESS_REMOTE_READ | enums.IBV_ACCESS_REMOTE_WRITE
            )
        self._queue_pair.modify(attributes, mask)

    def _be_ready(self) -> None:
        self._modify(enums.IBV_QPS_RTR)
        self._modify(enums.IBV_QPS_RTS)
        self._id.establish()
        self._do(self.engine.established(Limits(), time.monotonic_ns()))

    def _end(self, reason: CloseReason, words: str) -> None:
        """After what had arrived before."""
        if self._queue_pair is not None:
            self._poll()
        if self.closed is None:
            self._do(self.engine.disconnected(reason, words, time.monotonic_ns()))

    # The completion queue: taken, polled, armed, polled again.

    def _on_completions(self) -> None:
        self._completion_channel.get_cq_event(self._completions)
        self._completions.ack_events(1)
        self._completions.req_notify()
        self._poll()

    def _poll(self) -> None:
        found = []
        while polled := self._completions.poll(RECEIVES)[1]:
            found += [self._completion(one) for one in polled]
        if not self._vanished and self.closed is None:
            told = [one for one in found if one is not None]
            self._do(self.engine.completions(told, time.monotonic_ns()))
        self._progress.set()

    def _completion(self, one: Any) -> Completion | None:
        tag, index = one.wr_id >> TAG_SHIFT, one.wr_id & ((1 << TAG_SHIFT) - 1)
        status = _STATUS.get(one.status, Status.TRANSPORT_ERROR)
        if tag == RAW:
            return None
        if tag != Tag.RECEIVE:
            return Completion(Tag(tag), index, status)
        self._free.append(index)
        size = one.byte_len if status is Status.OK else 0
        message = self._receive_memory.read(size, index * self._size) if size else b""
        return Completion(Tag.RECEIVE, status=status, message=message)

    # The engine's actions.

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            self._do_one(action)
        self._progress.set()

    def _do_one(self, action: Action) -> None:
        match action:
            case PostReceives(count, size):
                for _ in range(count):
                    self._post_receive(size)
            case Post(chain):
                for work in chain:
                    self._post(work)
            case Expose(index, memory, access):
                self._expose(index, memory, access)
            case Revoke(index, token):
                self._regions.pop(token).close()
                self._complete(Completion(Tag.REVOKE, index))
            case Disconnect():
                self._disconnect()
            case Established():
                self.established = True
            case Deliver(message):
                self.messages.append(bytes(message))
            case Exposed(operation, _, descriptor) if descriptor is not None:
                self.descriptors[operation] = descriptor
            case Revoked(operation):
                self.revoked.add(operation)
            case Closed():
                self.closed = action

    def _complete(self, completion: Completion) -> None:
        """A completion that no work request stands for comes from the loop, like all others."""
        self._loop.call_soon(
            lambda: self._do(self.engine.completions([completion], time.monotonic_ns()))
        )

    def _stop_queue_pair(self) -> None:
        assert self._queue_pair is not None
        attributes = QPAttr()
        attributes.qp_state = enums.IBV_QPS_ERR
        self._queue_pair.modify(attributes, enums.IBV_QP_STATE)

    def _disconnect(self) -> None:
        self._stop_queue_pair()
        self._id.disconnect()
        self._loop.call_soon(self._end, CloseReason.NONE, "disconnected by this side")

    def _post_receive(self, size: int) -> None:
        assert self._queue_pair is not None
        place = self._free.popleft()
        memory = self._receive_memory
        piece = SGE(memory.buf + place * self._size, size, memory.lkey)
        number = Tag.RECEIVE << TAG_SHIFT | place
        self._queue_pair.post_recv(RecvWR(wr_id=number, num_sge=1, sg=[piece]))

    def _post(self, work: Work) -> None:
        """A client sends, and nothing else; the first is the Negotiate Request."""
        message = bytes(work.memory)
        if work.index == 0:
            message = self.greeting or message
        elif self.mute:
            return
        number = work.tag << TAG_SHIFT | work.index
        place = work.index % SEND_QUEUE
        self._post_send(self._send_memory, place, number, message, signalled=work.signalled)

    def _post_send(
        self, memory: MR, place: int, number: int, message: bytes, *, signalled: bool
    ) -> None:
        assert self._queue_pair is not None
        memory.write(message, len(message), place * self._size)
        piece = SGE(memory.buf + place * self._size, len(message), memory.lkey)
        flags = enums.IBV_SEND_SIGNALED if signalled else 0
        self._queue_pair.post_send(SendWR(wr_id=number, num_sge=1, sg=[piece], send_flags=flags))

    def _expose(self, index: int, memory: memoryview, access: int) -> None:
        """A registration of its own for each range."""
        flags = enums.IBV_ACCESS_REMOTE_READ if access & 1 else 0
        if access & 2:
            flags |= enums.IBV_ACCESS_REMOTE_WRITE | enums.IBV_ACCESS_LOCAL_WRITE
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        region = MR(self._id.pd, len(memory), flags, address=address)
        self._regions[region.rkey] = region
        descriptor = BufferDescriptor(address, region.rkey, len(memory))
        self._complete(Completion(Tag.EXPOSE, index, descriptor=descriptor))


def _made(target: str, make: Callable[[], Any]) -> tuple[Any, int]:
    """What `make` gives, and the descriptor that it has opened."""
    before = _descriptors(target)
    made = make()
    (descriptor,) = _descriptors(target) - before
    return made, descriptor


def _descriptors(target: str) -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if target in os.readlink(f"/proc/self/fd/{name}"):
                found.add(int(name))
        except OSError:
            continue  # that of the listing itself
    return found
