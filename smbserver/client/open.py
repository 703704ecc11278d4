"""An open file or directory ([MS-SMB2] 3.2.1.6): read, write, query, set, list, close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from smbdirect.pool import PoolRange
from smbserver.client import payload
from smbserver.client.pipeline import blocks, in_parallel
from smbserver.wire.bounds import Buffer
from smbserver.wire.close import CloseRequest, CloseResponse
from smbserver.wire.create import CreateResponse
from smbserver.wire.directory_information import DirectoryEntry, parse_entries
from smbserver.wire.file_id import FileId
from smbserver.wire.file_information import FileEndOfFileInformation, FileInformationClass
from smbserver.wire.flush import FlushRequest
from smbserver.wire.header import Command
from smbserver.wire.lock import LockElement, LockRequest
from smbserver.wire.query_directory import QueryDirectoryRequest, QueryDirectoryResponse
from smbserver.wire.query_info import InfoType, QueryInfoRequest, QueryInfoResponse
from smbserver.wire.set_info import SetInfoRequest
from smbserver.wire.status import NtStatus

if TYPE_CHECKING:
    from smbserver.client.session import SessionChannel
    from smbserver.client.tree import Tree

QUEUE_DEPTH = 8
"""Requests in flight when one call moves more than one block."""

BLOCK = 1 << 20
"""Bytes of such a request, if the server takes as many; enough that the cost of a request is small."""


class Open:
    """A handle. Close it, or use it as an asynchronous context manager."""

    def __init__(self, tree: Tree, name: str, created: CreateResponse) -> None:
        self.tree = tree
        self.name = name
        self.created = created
        """What CREATE told: action, times, size, attributes, contexts."""
        self.file_id: FileId = created.file_id
        self._closed = False

    # -- payload

    async def read(self, offset: int, length: int, *, depth: int = QUEUE_DEPTH) -> bytes:
        """Up to `length` bytes; fewer at the end of the file. Longer reads are split and pipelined."""
        data = bytearray(length)
        view = memoryview(data)
        ends: list[int] = []

        async def read_block(start: int, size: int) -> None:
            got = await payload.on_a_channel(payload.read, self, offset + start, size)
            view[start : start + len(got)] = got
            if got:
                ends.append(start + len(got))

        await in_parallel(
            read_block, blocks(length, min(BLOCK, self.tree.session.max_read_size)), depth
        )
        view.release()
        return bytes(data[: max(ends, default=0)])

    async def read_into(
        self,
        offset: int,
        piece: PoolRange,
        length: int | None = None,
        *,
        channel: SessionChannel | None = None,
    ) -> int:
        """One READ to the start of a range of `session.buffer()`; the bytes read. No copy by RDMA."""
        size = piece.length if length is None else length
        if channel is not None:
            return await payload.read_into(self, channel, offset, piece, size)
        return await payload.on_a_channel(payload.read_into, self, offset, piece, size)

    async def write(
        self, offset: int, data: Buffer, *, depth: int = QUEUE_DEPTH, flags: int = 0
    ) -> int:
        """Writes all of the data, and gives back its length. Longer writes are split and pipelined."""
        view = memoryview(data).cast("B")

        async def write_block(start: int, size: int) -> None:
            block = view[start : start + size]
            while block:
                at = offset + start + size - len(block)
                count = await payload.on_a_channel(payload.write, self, at, block, flags)
                block = block[count:]

        await in_parallel(
            write_block, blocks(len(view), min(BLOCK, self.tree.session.max_write_size)), depth
        )
        return len(view)

    async def write_from(
        self,
        offset: int,
        piece: PoolRange,
        length: int | None = None,
        *,
        flags: int = 0,
        channel: SessionChannel | None = None,
    ) -> int:
        """One WRITE from the start of a range of `session.buffer()`; the bytes written."""
        size = piece.length if length is None else length
        if channel is not None:
            return await payload.write_from(self, channel, offset, piece, size, flags)
        return await payload.on_a_channel(payload.write_from, self, offset, piece, size, flags)

    async def flush(self) -> None:
        """Returns when what was written is on disk."""
        await self._request(Command.FLUSH, FlushRequest(self.file_id).pack())

    # -- information

    async def query_info(
        self,
        file_info_class: int,
        info_type: int = InfoType.FILE,
        *,
        length: int = 65536,
        additional_information: int = 0,
    ) -> bytes:
        """The information buffer, for the `parse` of the information class."""
        request = QueryInfoRequest(
            info_type, file_info_class, self.file_id, length, additional_information
        )
        return bytes(
            QueryInfoResponse.parse(
                await self._request(Command.QUERY_INFO, request.pack())
            ).output_buffer
        )

    async def set_info(
        self,
        file_info_class: int,
        buffer: Buffer,
        info_type: int = InfoType.FILE,
        *,
        additional_information: int = 0,
    ) -> None:
        """Sets what an information class's `pack` gave."""
        request = SetInfoRequest(
            info_type, file_info_class, self.file_id, buffer, additional_information
        )
        await self._request(Command.SET_INFO, request.pack())

    async def truncate(self, size: int) -> None:
        """Makes the file this long."""
        information = FileEndOfFileInformation(size).pack()
        await self.set_info(FileInformationClass.FILE_END_OF_FILE, information)

    async def list(
        self,
        pattern: str = "*",
        information_class: int = FileInformationClass.FILE_ID_BOTH_DIRECTORY,
        *,
        length: int = 65536,
    ) -> AsyncIterator[DirectoryEntry]:
        """The entries of a directory, `.` and `..` included."""
        request = QueryDirectoryRequest(information_class, self.file_id, pattern, length).pack()
        while True:
            response = await self.tree.session.request(
                Command.QUERY_DIRECTORY,
                request,
                tree=self.tree,
                accept=(NtStatus.NO_MORE_FILES, NtStatus.NO_SUCH_FILE),
            )
            if response.status != NtStatus.SUCCESS:
                return
            answer = QueryDirectoryResponse.parse(response.message)
            for entry in parse_entries(information_class, answer.output_buffer):
                yield entry

    async def lock(self, *locks: LockElement) -> None:
        """Locks or unlocks byte ranges."""
        await self._request(Command.LOCK, LockRequest(self.file_id, locks).pack())

    async def ioctl(self, ctl_code: int, data: Buffer = b"", *, max_output: int = 65536) -> bytes:
        """A file system control on this handle; its output."""
        return await self.tree.ioctl(ctl_code, data, file_id=self.file_id, max_output=max_output)

    # -- the end

    async def close(self, *, flags: int = 0) -> CloseResponse:
        """Closes the handle; with POSTQUERY_ATTRIB the answer tells the attributes."""
        self._closed = True
        message = await self._request(Command.CLOSE, CloseRequest(self.file_id, flags).pack())
        return CloseResponse.parse(message)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if not self._closed:
            await self.close()

    async def _request(self, command: Command, body: bytes) -> memoryview:
        return (await self.tree.session.request(command, body, tree=self.tree)).message
