"""A share that the session has entered ([MS-SMB2] 3.2.1.4)."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from smbserver import access
from smbserver.client.open import Open
from smbserver.wire.bounds import Buffer
from smbserver.wire.create import (
    CreateDisposition,
    CreateOptions,
    CreateRequest,
    CreateResponse,
    OplockLevel,
    ShareAccess,
)
from smbserver.wire.create_contexts import CreateContext
from smbserver.wire.file_id import ALL_ONES, FileId
from smbserver.wire.header import Command, Header, HeaderFlags
from smbserver.wire.ioctl import IoctlRequest, IoctlResponse
from smbserver.wire.tree_connect import ShareFlags, TreeConnectResponse
from smbserver.wire.tree_disconnect import TreeDisconnectRequest

if TYPE_CHECKING:
    from smbserver.client.session import Session

READ_WRITE = (
    access.READ_DATA
    | access.WRITE_DATA
    | access.APPEND_DATA
    | access.READ_ATTRIBUTES
    | access.WRITE_ATTRIBUTES
    | access.READ_EA
    | access.WRITE_EA
    | access.DELETE
    | access.READ_CONTROL
    | access.SYNCHRONIZE
)

SHARE_ALL = ShareAccess.READ | ShareAccess.WRITE | ShareAccess.DELETE


class Tree:
    """A tree connect: `create` opens files of it."""

    def __init__(
        self, session: Session, tree_id: int, share: str, connected: TreeConnectResponse
    ) -> None:
        self.session = session
        self.id = tree_id
        self.share = share
        self.connected = connected
        """What the server said: type, flags, capabilities, maximal access."""
        self.encrypt = bool(connected.share_flags & ShareFlags.ENCRYPT_DATA)

    async def create(
        self,
        name: str,
        *,
        access: int = READ_WRITE,
        disposition: int = CreateDisposition.OPEN_IF,
        options: int = 0,
        attributes: int = 0,
        share: int = SHARE_ALL,
        oplock: int = OplockLevel.NONE,
        contexts: tuple[CreateContext, ...] = (),
        replay: bool = False,
    ) -> Open:
        r"""Opens or makes a file; `name` has backslashes and no leading one. `replay`: it was sent before."""
        request = CreateRequest(
            name, access, attributes, share, disposition, options, oplock, create_contexts=contexts
        )
        flags = int(HeaderFlags.REPLAY_OPERATION) if replay else 0
        header = Header(command=Command.CREATE, flags=flags)
        sent = await self.session.send(header, request.pack(), tree=self)
        response = (await sent.answer).expect()
        return Open(self, name, CreateResponse.parse(response.message))

    async def open_directory(self, name: str = "") -> Open:
        """Opens a directory to list it; the empty name is the share's root."""
        return await self.create(
            name,
            access=access.LIST_DIRECTORY | access.READ_ATTRIBUTES,
            disposition=CreateDisposition.OPEN,
            options=CreateOptions.DIRECTORY_FILE,
        )

    async def make_directory(self, name: str) -> None:
        """Makes a directory that must not exist."""
        made = await self.create(
            name, disposition=CreateDisposition.CREATE, options=CreateOptions.DIRECTORY_FILE
        )
        await made.close()

    async def delete(self, name: str, *, directory: bool = False) -> None:
        """Removes a file or an empty directory."""
        kind = CreateOptions.DIRECTORY_FILE if directory else CreateOptions.NON_DIRECTORY_FILE
        doomed = await self.create(
            name,
            access=access.DELETE | access.READ_ATTRIBUTES,
            disposition=CreateDisposition.OPEN,
            options=kind | CreateOptions.DELETE_ON_CLOSE,
        )
        await doomed.close()

    async def ioctl(
        self,
        ctl_code: int,
        data: Buffer = b"",
        *,
        file_id: FileId = ALL_ONES,
        max_output: int = 65536,
        signed: bool = False,
    ) -> bytes:
        """A file system control; its output."""
        request = IoctlRequest(ctl_code, file_id, data, max_output)
        response = await self.session.request(
            Command.IOCTL, request.pack(), tree=self, signed=signed
        )
        return bytes(IoctlResponse.parse(response.message).output)

    async def disconnect(self) -> None:
        """Leaves the share."""
        body = TreeDisconnectRequest().pack()
        await self.session.request(Command.TREE_DISCONNECT, body, tree=self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.disconnect()
