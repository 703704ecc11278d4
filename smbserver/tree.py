"""Tree connects: a session's use of a share ([MS-SMB2] 3.3.1.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from smbserver.parameters import Share
    from smbserver.session import Session
    from smbserver.user import User
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
    forced_user: User | None = None
    """As whom `force user` and `force group` let everybody act; None: as oneself."""
    on_close: Callable[[], object] | None = None
    """Gives back the place among the share's connections."""

    @property
    def user(self) -> User | None:
        """As whom requests are carried out."""
        return self.forced_user or self.session.user

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
        if self.on_close is not None:
            self.on_close()
            self.on_close = None
