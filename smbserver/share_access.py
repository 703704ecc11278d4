"""Who may enter a share, what for, and as whom: the parameters that decide a TREE_CONNECT.

A member of a list of users is a name of an account, or, with @ or + in front, of a Unix group.
"""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
from typing import TYPE_CHECKING

from smbserver import hosts
from smbserver.user import User
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from smbserver.parameters import Share
    from smbserver.store import Store

GROUP_MARKS = "@+"
"""What stands before the name of a group."""


def may_write(share: Share, user: User, client: str) -> bool:
    """Whether the user may change anything there; refuses who may not even enter."""
    if not hosts.permits(share.hosts_allow, share.hosts_deny, client):
        raise StatusError(NtStatus.ACCESS_DENIED, words=f"{client} may not enter [{share.name}]")
    if (user.guest or user.anonymous) and not share.guest_ok:
        raise StatusError(NtStatus.ACCESS_DENIED, words=f"[{share.name}] is not for guests")
    if is_listed(share.invalid_users, user) or (
        share.valid_users and not is_listed(share.valid_users, user)
    ):
        raise StatusError(NtStatus.ACCESS_DENIED, words=f"[{share.name}] is not for {user.name}")
    if is_listed(share.write_list, user):
        return True
    return not share.read_only and not is_listed(share.read_list, user)


def is_listed(members: Iterable[str], user: User) -> bool:
    """Whether a list names the user, or a group that it belongs to."""
    name = user.name.casefold()
    for member in members:
        if member[:1] in GROUP_MARKS:
            if _is_in_group(user, member.lstrip(GROUP_MARKS)):
                return True
        elif name == member.rpartition("\\")[2].casefold():
            return True
    return False


def _is_in_group(user: User, group: str) -> bool:
    try:
        gid, account = grp.getgrnam(group).gr_gid, pwd.getpwuid(user.uid)
    except KeyError:
        return False
    return gid in os.getgrouplist(account.pw_name, account.pw_gid)


def forced_user(share: Share, user: User) -> User | None:
    """As whom the user acts in the share, where its `force user` or `force group` say so; None: as oneself."""
    forced = _unix_user(share) if share.force_user else user
    if share.force_group:
        forced = _in_group(share, forced)
    return forced if forced is not user else None


def _unix_user(share: Share) -> User:
    try:
        return User(share.force_user, pwd.getpwnam(share.force_user).pw_uid)
    except KeyError:
        words = f"[{share.name}] force user = {share.force_user}: the system knows no such user"
        raise StatusError(NtStatus.NO_SUCH_USER, words=words) from None


def _in_group(share: Share, user: User) -> User:
    """The user with the forced group, which with + in front is only its members'."""
    name = share.force_group.lstrip("+")
    if name != share.force_group and not _is_in_group(user, name):
        return user
    try:
        return dataclasses.replace(user, gid=grp.getgrnam(name).gr_gid)
    except KeyError:
        words = f"[{share.name}] force group = {name}: the system knows no such group"
        raise StatusError(NtStatus.NO_SUCH_GROUP, words=words) from None


def take_place(store: Store, share: Share, number: int) -> Callable[[], object] | None:
    """One of the `max connections` tree connects of all workers; what gives it back. None: they are not counted."""
    if not share.max_connections:
        return None
    table = store.shared.table("tree connects", owned=True)
    prefix = share.name.lower().encode()[:200] + b"\0"
    with store.shared.transaction:
        places = (place for _, place in table.scan(prefix) if not store.is_dead(place["worker"]))
        if sum(1 for _ in places) >= share.max_connections:
            words = f"[{share.name}] has {share.max_connections} connections: max connections"
            raise StatusError(NtStatus.REQUEST_NOT_ACCEPTED, words=words)
        key = prefix + store.worker.to_bytes(2, "big") + number.to_bytes(8, "big")
        table.put(key, {"worker": store.worker})
    return lambda: table.delete(key)
