"""Commands without a server: requests go to `serve` as bytes, through a connection that only has limits."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smbdirect.channel_end import TransferFailed
from smbserver import access, share_modes
from smbserver.commands import close, create
from smbserver.config import Config
from smbserver.dispatch import Call, Chain, Later, Reply
from smbserver.parameters import Share as ShareParameters
from smbserver.service import Service
from smbserver.session import Session
from smbserver.tree import Tree
from smbserver.vfs import open_share
from smbserver.wire.close import CloseRequest
from smbserver.wire.create import CreateRequest, CreateResponse
from smbserver.wire.file_id import FileId
from smbserver.wire.header import Header
from smbserver.wire.negotiate import Dialect
from smbserver.wire.status import NtStatus, StatusError


class FakeChannel:
    """Carries RDMA out by itself: `memory` is the client's, addressed by the descriptors' offsets."""

    def __init__(self, transport: str = "tcp") -> None:
        self.facts = SimpleNamespace(transport=transport)
        self.memory = bytearray(1 << 20)
        self.status = 0
        """Of what is fetched."""

    def fetch(self, piece: Any, length: int, descriptors: bytes, done: Any) -> None:
        moved = 0 if self.status else self._copy(piece, length, descriptors)
        asyncio.get_running_loop().call_soon(done, self.status, moved)

    async def rdma_read(self, piece: Any, length: int, descriptors: bytes) -> int:
        if self.status:
            raise TransferFailed(self.status, "as the test wants it")
        return self._copy(piece, length, descriptors)

    def _copy(self, piece: Any, length: int, descriptors: bytes) -> int:
        done = 0
        for at in range(0, len(descriptors), 16):
            offset = int.from_bytes(descriptors[at : at + 8], "little")
            size = min(int.from_bytes(descriptors[at + 12 : at + 16], "little"), length - done)
            piece.view[done : done + size] = self.memory[offset : offset + size]
            done += size
        return done


@dataclass
class Server:
    """A session with one tree on a fresh folder, and the requests one can make."""

    path: Path
    outside: Path
    tree: Tree
    session: Session
    channel: FakeChannel
    service: Service
    connection: Any = field(init=False)

    def __post_init__(self) -> None:
        self.connection = SimpleNamespace(
            dialect=Dialect.SMB_3_1_1,
            channel=self.channel,
            pool=None,
            max_read_size=1 << 20,
            max_write_size=1 << 20,
            max_transact_size=1 << 20,
            capabilities=0,
            client_guid=bytes(16),
            service=self.service,
        )

    def call(self, body: bytes, opened: Any = None) -> Call:
        message = memoryview(Header(command=0).pack() + body)
        chain = Chain(self.connection, [])
        header = Header.parse(message)
        return Call(self.connection, header, message, chain, self.session, self.tree, opened)

    def request(self, command: Any, request: Any) -> Reply:
        """The command's reply; raises StatusError as the command does."""
        opened = None
        if hasattr(request, "file_id"):
            opened = self.session.opens[request.file_id.volatile]
        outcome = asyncio.run(outcome_of(command, self.call(request.pack(), opened)))
        assert isinstance(outcome, Reply)
        return outcome

    def create(self, name: str, desired: int = access.ALL, **fields: Any) -> CreateResponse:
        fields.setdefault("share_access", 7)
        reply = self.request(create, CreateRequest(name, desired, **fields))
        return CreateResponse.parse(bytes(64) + reply.body)

    def open(self, name: str, desired: int = access.ALL, **fields: Any) -> FileId:
        return self.create(name, desired, **fields).file_id

    def close(self, file_id: FileId) -> None:
        self.request(close, CloseRequest(file_id))

    def refuses(self, status: NtStatus, command: Any, request: Any) -> None:
        with pytest.raises(StatusError) as refused:
            self.request(command, request)
        assert refused.value.status == status, refused.value

    def refuses_create(
        self, status: NtStatus, name: str, desired: int = access.ALL, **fields: Any
    ) -> None:
        fields.setdefault("share_access", 7)
        self.refuses(status, create, CreateRequest(name, desired, **fields))


async def outcome_of(command: Any, call: Call) -> Any:
    """What the dispatcher would get, which holds the open's descriptor for who answers later."""
    outcome = command.serve(call)
    if not isinstance(outcome, Later):
        return await outcome if inspect.isawaitable(outcome) else outcome
    brought = asyncio.get_running_loop().create_future()
    outcome.bring = brought.set_result
    assert call.open is not None
    with call.open.handle:
        reply = await brought
    if isinstance(reply, Exception):
        raise reply
    return reply


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A share that may be written, `share/` below the test's folder; `outside/secret` beside it."""
    path, outside = tmp_path / "share", tmp_path / "outside"
    path.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret")
    parameters = ShareParameters(name="share", path=str(path), read_only=False)
    vfs = open_share(parameters)
    session = Session(1, None, Dialect.SMB_3_1_1, bytes(16))  # type: ignore[arg-type]
    tree = Tree(1, session, parameters, vfs, access.ALL)
    yield Server(path, outside, tree, session, FakeChannel(), Service(Config()))
    session.close()
    vfs.close()
    assert not share_modes._files, "an open outlived its session"
