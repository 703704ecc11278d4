"""For whom a request acts: the user of its session, or whom its share names (identity.py says how)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from smbserver.identity import SERVER, Identity, identity_of

if TYPE_CHECKING:
    from smbserver.dispatch import Call, Reply
    from smbserver.tree import Tree


def acting_for(tree: Tree | None) -> Identity:
    """The identity of a tree connect: that of its session's user, or of whom the share forces."""
    if tree is None:
        return SERVER
    user = tree.user
    return identity_of(user.uid, user.gid) if user is not None else SERVER


def as_user(serve: Callable[[Call], Reply]) -> Callable[[Call], Reply]:
    """A command that runs as the user who sent it."""

    @functools.wraps(serve)
    def serve_as_user(call: Call) -> Reply:
        with acting_for(call.tree):
            return serve(call)

    return serve_as_user
