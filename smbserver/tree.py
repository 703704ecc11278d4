"""Tree connects: a session's use of a share ([MS-SMB2] 3.3.1.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smbserver.parameters import Share
    from smbserver.session import Session
    from smbserver.vfs import Share as FileShare


@dataclass(slots=True, eq=False)
class Tree:
    """[MS-SMB2] 3.3.1.9, TreeConnect."""

    id: int
    session: Session
    share: Share
    """The share's part of the configuration."""
    vfs: FileShare | None
    """The share's files; None for IPC$, which has none."""
    maximal_access: int
    """Access mask that the user can have at most."""
    encrypt_data: bool = False
    """Unencrypted requests are refused."""

    @property
    def is_ipc(self) -> bool:
        """Whether this is IPC$: named pipes only."""
        return self.vfs is None

    def close(self) -> None:
        """End the tree connect and what was opened through it."""
        opens = self.session.opens
        for opened in [one for one in opens.values() if one.tree is self]:
            opened.close()
            opens.pop(opened.volatile_id, None)
        self.session.trees.pop(self.id, None)
