"""Two clients with different ClientGUIDs, so of two worker processes, against a model of what they do to each other."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from smbserver import client
from smbserver.own_server import OwnServer
from smbserver.wire.create import OplockLevel
from smbserver.wire.create_contexts import REQUEST_LEASE, CreateContext, Lease, find_context
from smbserver.wire.header import Command
from smbserver.wire.lock import LockElement, LockFlags
from smbserver.wire.oplock_break import (
    LeaseBreakAcknowledgment,
    LeaseBreakFlags,
    LeaseBreakNotification,
    parse_break,
)
from smbserver.wire.status import NtStatus, StatusError
from tests.effort import examples
from tests.sessions import connect
from tests.smbserver.sharing_model import DELETE, READ, WRITE, Break, H, Handle, Model, R, W

RIGHTS = {READ: 0x00120089, WRITE: 0x00120116, DELETE: 0x00010080}
NAMES = "ab"
STEPS = 40
EXAMPLES = 12
"""About twenty seconds."""
PATIENCE = 10.0
"""Seconds for a break to come."""

bits = st.integers(0, 7)
wishes = st.sampled_from([None, R, R | H, R | W, R | W | H])
offsets = st.integers(0, 12)
lengths = st.integers(0, 6)
numbers = st.integers(0, 1000)


class Caching:
    """One client: what it is told of its leases, which it acknowledges at once."""

    def __init__(self, session: client.Session, tree: client.Tree, guid: bytes) -> None:
        self.session, self.tree = session, tree
        self.told: list[Break] = []
        self._names = {_key(guid, name): name for name in NAMES}
        self._keys = {name: key for key, name in self._names.items()}
        self._changed = asyncio.Event()
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        connection = self.session.pick().connection
        while True:
            told = parse_break((await connection.next_unsolicited()).message)
            assert isinstance(told, LeaseBreakNotification)
            if told.flags & LeaseBreakFlags.ACK_REQUIRED:
                body = LeaseBreakAcknowledgment(told.lease_key, told.new_lease_state).pack()
                await self.session.request(Command.OPLOCK_BREAK, body, tree=self.tree)
            name = self._names[told.lease_key]
            self.told.append(Break(name, told.current_lease_state, told.new_lease_state))
            self._changed.set()

    async def hears(self, number: int) -> None:
        """Return when it has been told so often, and has acknowledged."""
        async with asyncio.timeout(PATIENCE):
            while len(self.told) < number:
                if self._listening.done():
                    self._listening.result()
                self._changed.clear()
                await self._changed.wait()

    def context(self, name: str, wish: int) -> CreateContext:
        return CreateContext(REQUEST_LEASE, Lease(self._keys[name], wish).pack())

    async def close(self) -> None:
        self._listening.cancel()
        await self.session.close()


def _key(guid: bytes, name: str) -> bytes:
    return hashlib.blake2b(guid + name.encode(), digest_size=16).digest()


class TwoClients(RuleBasedStateMachine):
    """Whatever one does, the other sees at once."""

    server: OwnServer
    operations = 0
    breaks = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = Model(2)
        self.files: dict[Handle, client.Open] = {}
        self.clients = [self.do(self._connect(guid * 16)) for guid in (b"1", b"2")]

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, 3 * PATIENCE))

    async def _connect(self, guid: bytes) -> Caching:
        session = await connect(self.server, client_guid=guid)
        return Caching(session, await session.tree(self.server.share), guid)

    def teardown(self) -> None:
        for one in self.clients:
            self.do(one.close())
        self.loop.close()
        TwoClients.breaks += sum(len(one) for one in self.model.expected)

    def status(self, what: Coroutine[Any, Any, Any]) -> int:
        try:
            self.do(what)
        except StatusError as error:
            return error.status
        return 0

    def done(self) -> None:
        """Every operation ends here: what the clients were told of it is what the model says, and no more."""
        TwoClients.operations += 1
        for one, expected in zip(self.clients, self.model.expected, strict=True):
            self.do(one.hears(len(expected)))
            assert one.told == expected

    @rule(who=st.integers(0, 1), name=st.sampled_from(NAMES), rights=bits, share=bits, wish=wishes)
    def open(self, who: int, name: str, rights: int, share: int, wish: int | None) -> None:
        handle = self.model.open(who, name, rights, share, wish)
        access = 0x80
        for right, mask in RIGHTS.items():
            access |= mask if rights & right else 0
        one = self.clients[who]
        level = OplockLevel.NONE if wish is None else OplockLevel.LEASE
        contexts = () if wish is None else (one.context(name, wish),)
        opening = one.tree.create(name, access=access, share=share, oplock=level, contexts=contexts)
        try:
            file = self.do(opening)
        except StatusError as error:
            assert error.status == NtStatus.SHARING_VIOLATION
            assert handle is None
        else:
            assert handle is not None
            self.files[handle] = file
            if wish is not None:
                granted = find_context(file.created.create_contexts, REQUEST_LEASE)
                assert granted is not None
                assert Lease.parse(granted.data).lease_state == self.model.leases[who, name]
        self.done()

    @precondition(lambda self: self.files)
    @rule(number=numbers)
    def close(self, number: int) -> None:
        handle = self.pick(number)
        self.model.close(handle)
        self.do(self.files.pop(handle).close())
        self.done()

    def pick(self, number: int) -> Handle:
        return self.model.handles[number % len(self.model.handles)]

    @precondition(lambda self: self.files)
    @rule(number=numbers, offset=offsets, length=lengths, exclusive=st.booleans())
    def lock(self, number: int, offset: int, length: int, exclusive: bool) -> None:
        handle = self.pick(number)
        granted = self.model.lock(handle, offset, length, exclusive)
        flags = LockFlags.EXCLUSIVE_LOCK if exclusive else LockFlags.SHARED_LOCK
        element = LockElement(offset, length, flags | LockFlags.FAIL_IMMEDIATELY)
        expected = NtStatus.SUCCESS if granted else NtStatus.LOCK_NOT_GRANTED
        assert self.status(self.files[handle].lock(element)) == expected
        self.done()

    @precondition(lambda self: any(one.locks for one in self.model.handles))
    @rule(number=numbers)
    def unlock(self, number: int) -> None:
        holders = [one for one in self.model.handles if one.locks]
        handle = holders[number % len(holders)]
        offset, length, _ = handle.locks[number % len(handle.locks)]
        self.model.unlock(handle, offset, length)
        element = LockElement(offset, length, LockFlags.UNLOCK)
        assert not self.status(self.files[handle].lock(element))
        self.done()

    @precondition(lambda self: self.files)
    @rule(number=numbers, offset=offsets, length=st.integers(1, 6))
    def write(self, number: int, offset: int, length: int) -> None:
        handle = self.pick(number)
        if not handle.rights & WRITE:
            return
        written = self.model.write(handle, offset, length)
        expected = NtStatus.SUCCESS if written else NtStatus.FILE_LOCK_CONFLICT
        assert self.status(self.files[handle].write(offset, bytes(length))) == expected
        self.done()


@pytest.mark.hypothesis
def test_two_clients(server: OwnServer) -> None:
    TwoClients.server = server
    TwoClients.operations = TwoClients.breaks = 0
    run_state_machine_as_test(
        TwoClients,
        settings=settings(
            max_examples=examples(EXAMPLES), stateful_step_count=STEPS, deadline=None
        ),
    )
    print(f"{TwoClients.operations} operations, {TwoClients.breaks} breaks")
    assert TwoClients.breaks
