"""Opens: what a FileId stands for ([MS-SMB2] 3.3.1.10)."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smbserver import access, quick, share_modes
from smbserver.acting import acting_for
from smbserver.vfs.directory import Directory
from smbserver.vfs.file import File
from smbserver.vfs.metadata import Metadata
from smbserver.vfs.stream import Stream

if TYPE_CHECKING:
    from smbserver.commands.change_notify import Notifier
    from smbserver.durable.record import Durability
    from smbserver.folder_entry import FolderEntry
    from smbserver.quick import QuickOpen
    from smbserver.tree import Tree

log = logging.getLogger(__name__)

MAX_OPENS = 16384
"""Opens of one session; what Windows and Samba allow. Each costs a descriptor."""

_ids = itertools.count(1)

Data = File | Stream
"""What READ and WRITE work on."""


@dataclass(slots=True)
class Listing:
    """Where QUERY_DIRECTORY stands in a directory."""

    pattern: str
    names: list[str]
    """As the directory was when the enumeration began; what matches the pattern."""
    next: int = 0


@dataclass(slots=True, eq=False)
class Open:
    """[MS-SMB2] 3.3.1.10, an Open."""

    tree: Tree
    handle: Data | Directory
    file: share_modes.SharedFile
    granted_access: int
    share_access: int
    create_options: int = 0
    delete_on_close: bool = False
    write_through: bool = False
    """Data is on disk before a WRITE is answered."""
    listing: Listing | None = None
    durability: Durability | None = None
    """How it waits for its client; None: it ends with its session."""
    create_action: int = 0
    """What CREATE did, for a client that asks again."""
    is_replay_eligible: bool = True
    """The client has not shown yet that it knows the FileId."""
    notifier: Notifier | None = None
    """What CHANGE_NOTIFY has begun to follow."""
    entry: FolderEntry | None = None
    """Whom changes of the file concern who have listed its folder; None: nobody can have."""
    quick: QuickOpen | None = None
    """What C knows of it; None: all its requests go by Python."""
    on_close: list[Callable[[], None]] = field(default_factory=list)
    """What ends with the open: its locks, and who waits for something of it."""
    lock_sequences: dict[int, int] = field(default_factory=dict)
    """LockSequenceArray: the number that came last for an index."""
    channel_sequence: int = 0
    requests: int = 0
    """Under way with this ChannelSequence."""
    earlier_requests: int = 0
    """Under way with older ones ([MS-SMB2] 3.3.1.10, OutstandingRequestCount and OutstandingPreRequestCount)."""
    last_position: int = 0
    volatile_id: int = field(default_factory=lambda: next(_ids))
    may_read: bool = field(init=False)
    may_write: bool = field(init=False)
    _closed: bool = False

    def __post_init__(self) -> None:
        self.may_read = bool(self.granted_access & access.READING) and not self.is_directory
        self.may_write = bool(self.granted_access & access.WRITING) and not self.is_directory
        self.file.opens.append(self)

    @property
    def persistent_id(self) -> int:
        """By which the client asks for it when its session has ended; otherwise the same number."""
        return self.volatile_id if self.durability is None else self.durability.persistent_id

    @property
    def position(self) -> int:
        """CurrentByteOffset: where the last READ ended, for clients that ask."""
        return self.last_position if self.quick is None else self.quick.position

    @position.setter
    def position(self, value: int) -> None:
        self.last_position = value
        if self.quick is not None:
            self.quick.position = value

    @property
    def is_closed(self) -> bool:
        """Its handle must not be used any more: the descriptor's number may be that of another file."""
        return self._closed

    @property
    def is_directory(self) -> bool:
        """False also for a stream of a directory."""
        return isinstance(self.handle, Directory)

    @property
    def path(self) -> str:
        """Real path below the share."""
        return self.file.path

    @property
    def name(self) -> str:
        """Last component of the path."""
        return self.file.path.rpartition("/")[2]

    @property
    def is_hidden(self) -> bool:
        """Whether its name alone hides it."""
        return self.tree.vfs is not None and self.tree.vfs.hides(self.name)

    def metadata(self) -> Metadata:
        """What is told of the file."""
        return self.handle.metadata(self.is_hidden)

    def begin(self, sequence: int, is_replay: bool) -> bool:
        """Count a request that comes with this ChannelSequence; False: it comes too late, or too early.

        [MS-SMB2] 3.3.5.2.10.
        """
        ahead = (sequence - self.channel_sequence) & 0xFFFF
        quick = self.quick
        earlier = self.earlier_requests + (0 if quick is None else quick.earlier_requests)
        if ahead > 0x7FFF or (is_replay and earlier):
            return False
        if ahead:
            self.earlier_requests += self.requests
            self.requests, self.channel_sequence = 0, sequence
            if quick is not None:
                quick.begin_sequence(sequence)
        self.requests += 1
        return True

    def finish(self, sequence: int) -> None:
        """A request that was counted is answered."""
        if sequence == self.channel_sequence:
            self.requests -= 1
        else:
            self.earlier_requests -= 1

    def close(self) -> None:
        """Ends the open; deletes the file if that was wanted and this was the last. Further calls do nothing."""
        if self._closed:
            return
        self._closed = True
        quick.withdraw(self)
        for callback in list(self.on_close):
            callback()
        # Both know the open: left in a circle, it would keep the share's folder open until the collector comes.
        self.on_close.clear()
        self.notifier = None
        if self.delete_on_close:
            self.file.delete_pending = True
            share_modes.announce_deletion(self.file)
            if self.entry is not None:
                self.entry.deleting(self.file.key)
        try:
            gone = share_modes.leave(self.file, self)
            if gone is not None:
                with acting_for(self.tree):
                    self._delete(gone)
                if self.entry is not None:
                    self.entry.changed(self.path)
            elif self.entry is not None:
                self.entry.closing(self.handle, self.path)
        except OSError as error:
            log.info("%s was to be deleted on close: %s", self.path, error)
        finally:
            self.handle.close()

    def _delete(self, gone: share_modes.Key) -> None:
        """A stream may also be the last that held its file."""
        if isinstance(self.handle, Stream) and gone[2]:
            self.handle.remove()
        elif self.tree.vfs is not None:
            self.tree.vfs.remove(
                self.path, self.handle.identity, is_directory=self.handle.is_directory
            )
