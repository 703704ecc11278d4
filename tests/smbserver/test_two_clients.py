"""Two clients with different ClientGUIDs against a model of share modes and byte-range locks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
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
from smbserver.wire.lock import LockElement, LockFlags
from smbserver.wire.status import NtStatus, StatusError
from tests.effort import examples

READ, WRITE, DELETE = 1, 2, 4
RIGHTS = {READ: 0x00120089, WRITE: 0x00120116, DELETE: 0x00010080}
STEPS = 40
EXAMPLES = 12
"""About ten seconds."""

bits = st.integers(0, 7)
offsets = st.integers(0, 12)
lengths = st.integers(0, 6)
numbers = st.integers(0, 1000)


@dataclass(eq=False)
class Handle:
    file: client.Open
    name: str
    rights: int
    share: int
    locks: list[tuple[int, int, bool]] = field(default_factory=list)


class TwoClients(RuleBasedStateMachine):
    """Whatever one does, the other sees at once."""

    server: OwnServer

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.handles: list[Handle] = []
        self.sessions, self.trees = [], []
        for guid in (b"1", b"2"):
            session = self.do(self._connect(guid * 16))
            self.sessions.append(session)
            self.trees.append(self.do(session.tree(self.server.share)))

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, 30))

    def status(self, what: Coroutine[Any, Any, Any]) -> int:
        try:
            self.do(what)
        except StatusError as error:
            return error.status
        return 0

    def _connect(self, guid: bytes) -> Coroutine[Any, Any, client.Session]:
        return client.connect(
            "127.0.0.1",
            self.server.port,
            user=self.server.user,
            password=self.server.password,
            options=client.Options(client_guid=guid),
        )

    def teardown(self) -> None:
        for session in self.sessions:
            self.do(session.close())
        self.loop.close()

    @rule(who=st.integers(0, 1), name=st.sampled_from("ab"), rights=bits, share=bits)
    def open(self, who: int, name: str, rights: int, share: int) -> None:
        excluded = any(
            one.name == name
            and rights
            and one.rights
            and (rights & ~one.share or one.rights & ~share)
            for one in self.handles
        )
        access = 0x80
        for right, mask in RIGHTS.items():
            access |= mask if rights & right else 0
        try:
            file = self.do(self.trees[who].create(name, access=access, share=share))
        except StatusError as error:
            assert error.status == NtStatus.SHARING_VIOLATION
            assert excluded
            return
        assert not excluded
        self.handles.append(Handle(file, name, rights, share))

    @precondition(lambda self: self.handles)
    @rule(number=numbers)
    def close(self, number: int) -> None:
        handle = self.handles.pop(number % len(self.handles))
        self.do(handle.file.close())

    @precondition(lambda self: self.handles)
    @rule(number=numbers, offset=offsets, length=lengths, exclusive=st.booleans())
    def lock(self, number: int, offset: int, length: int, exclusive: bool) -> None:
        handle = self.handles[number % len(self.handles)]
        excluded = any(
            (exclusive or lock[2])
            and not (one is handle and not exclusive)
            and lock[0] < offset + length
            and offset < lock[0] + lock[1]
            for one in self.handles
            if one.name == handle.name
            for lock in one.locks
        )
        flags = LockFlags.EXCLUSIVE_LOCK if exclusive else LockFlags.SHARED_LOCK
        element = LockElement(offset, length, flags | LockFlags.FAIL_IMMEDIATELY)
        expected = NtStatus.LOCK_NOT_GRANTED if excluded else NtStatus.SUCCESS
        assert self.status(handle.file.lock(element)) == expected
        if not excluded:
            handle.locks.append((offset, length, exclusive))

    @precondition(lambda self: any(one.locks for one in self.handles))
    @rule(number=numbers)
    def unlock(self, number: int) -> None:
        holders = [one for one in self.handles if one.locks]
        handle = holders[number % len(holders)]
        wanted = handle.locks[number % len(handle.locks)][:2]
        first = next(lock for lock in handle.locks if lock[:2] == wanted)
        handle.locks.remove(first)
        assert not self.status(handle.file.lock(LockElement(*wanted, LockFlags.UNLOCK)))

    @precondition(lambda self: self.handles)
    @rule(number=numbers, offset=offsets, length=st.integers(1, 6))
    def write(self, number: int, offset: int, length: int) -> None:
        handle = self.handles[number % len(self.handles)]
        if not handle.rights & WRITE:
            return
        excluded = any(
            (one is not handle or not lock[2])
            and lock[0] < offset + length
            and offset < lock[0] + lock[1]
            for one in self.handles
            if one.name == handle.name
            for lock in one.locks
        )
        expected = NtStatus.FILE_LOCK_CONFLICT if excluded else NtStatus.SUCCESS
        assert self.status(handle.file.write(offset, bytes(length))) == expected


@pytest.mark.hypothesis
def test_two_clients(server: OwnServer) -> None:
    TwoClients.server = server
    run_state_machine_as_test(
        TwoClients,
        settings=settings(
            max_examples=examples(EXAMPLES), stateful_step_count=STEPS, deadline=None
        ),
    )
