"""An open named pipe: what is written is a request, what is read its answer."""

from __future__ import annotations

import itertools
import logging
import os

from smbserver import access, share_modes
from smbserver.config import Config
from smbserver.open import Open
from smbserver.pipes import srvsvc
from smbserver.pipes.dcerpc import Association
from smbserver.tree import Tree
from smbserver.vfs.stream import Stream
from smbserver.wire.bounds import Malformed
from smbserver.wire.status import NtStatus, StatusError

log = logging.getLogger(__name__)

_SERVICES = {"srvsvc": srvsvc.interface}

_numbers = itertools.count(1)


class Pipe(Stream):
    """Read and written as a stream is; its descriptor, which every handle has, leads nowhere."""

    __slots__ = ("association",)

    def __init__(self, name: str, association: Association) -> None:
        super().__init__(os.open(os.devnull, os.O_PATH | os.O_CLOEXEC), name, is_directory=False)
        self.association = association

    def read(self, buffer: memoryview, offset: int) -> int:
        """The answer, or the next piece of it."""
        piece = self.association.take(len(buffer))
        if not piece:
            raise StatusError(NtStatus.PIPE_EMPTY)
        buffer[: len(piece)] = piece
        return len(piece)

    def write(self, buffer: memoryview, offset: int) -> int:
        """A request, or a piece of one."""
        try:
            self.association.receive(buffer)
        except Malformed as error:
            raise StatusError(NtStatus.PIPE_DISCONNECTED) from error
        return len(buffer)

    def _load(self) -> bytes:
        return b""


def open_pipe(tree: Tree, config: Config, name: str, granted: int) -> Open:
    """Opens a pipe of IPC$; those that nobody serves are not there."""
    service = _SERVICES.get(name.lower())
    if service is None:
        log.debug("no pipe %r", name)
        raise StatusError(NtStatus.OBJECT_NAME_NOT_FOUND)
    pipe = Pipe(name, Association(service(config)))
    file = share_modes.enter((0, next(_numbers), ""), name, access.READ_ATTRIBUTES, 7)
    return Open(tree=tree, handle=pipe, file=file, granted_access=granted, share_access=7)
