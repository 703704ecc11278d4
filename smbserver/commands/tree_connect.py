"""TREE_CONNECT: the session enters a share ([MS-SMB2] 3.3.5.7)."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from smbserver import share_access, vfs
from smbserver.dispatch import Call, Reply
from smbserver.parameters import Share
from smbserver.session import MAX_TREES
from smbserver.tree import Tree
from smbserver.wire.negotiate import Dialect
from smbserver.wire.status import NtStatus, StatusError
from smbserver.wire.tree_connect import (
    ShareCapabilities,
    ShareFlags,
    ShareType,
    TreeConnectRequest,
    TreeConnectResponse,
)

if TYPE_CHECKING:
    from smbserver.connection import Connection

log = logging.getLogger(__name__)

FULL_ACCESS = 0x001F01FF
"""FILE_ALL_ACCESS ([MS-DTYP] 2.4.3, [MS-SMB2] 2.2.13.1)."""

READ_ACCESS = 0x001200A9
"""FILE_GENERIC_READ and FILE_GENERIC_EXECUTE."""

IPC = Share(name="IPC$", comment="Interprocess communication", guest_ok=True)


def serve(call: Call) -> Reply:
    """Find the share, check the user and the encryption, and number the tree connect."""
    request = TreeConnectRequest.parse(call.message)
    session, connection = call.session, call.connection
    assert session is not None
    if len(session.trees) >= MAX_TREES:
        raise StatusError(NtStatus.INSUFFICIENT_RESOURCES)
    share = _find_share(connection, request.path)
    assert session.user is not None
    may_write = share_access.may_write(share, session.user, connection.channel.facts.remote[0])
    encrypt = _check_encryption(connection, share)
    is_ipc = share is IPC
    access = FULL_ACCESS if may_write or is_ipc else READ_ACCESS
    tree = Tree(
        session.next_tree,
        session,
        share,
        _open(share),
        access,
        encrypt,
        share_access.forced_user(share, session.user),
    )
    place = session.id << 32 | tree.id
    tree.on_close = share_access.take_place(connection.service.store, share, place)
    session.next_tree += 1
    session.trees[tree.id] = tree
    call.tree = call.chain.tree = tree
    share_type = ShareType.PIPE if is_ipc else ShareType.DISK
    flags = ShareFlags.NO_CACHING if is_ipc else ShareFlags.MANUAL_CACHING
    if share.hide_unreadable:
        flags |= ShareFlags.ACCESS_BASED_DIRECTORY_ENUM
    if encrypt:
        flags |= ShareFlags.ENCRYPT_DATA
    capabilities = 0
    if share.continuous_availability and session.dialect >= Dialect.SMB_3_0:
        capabilities |= ShareCapabilities.CONTINUOUS_AVAILABILITY
    return Reply(TreeConnectResponse(share_type, flags, capabilities, access).pack())


def _find_share(connection: Connection, path: str) -> Share:
    r"""The share that `\\server\share` names; the server's name is not looked at."""
    parts = path.split("\\")
    if len(parts) != 4 or parts[0] or parts[1]:
        raise StatusError(NtStatus.BAD_NETWORK_NAME)
    name = parts[3]
    share = IPC if name.upper() == "IPC$" else connection.service.config.share(name)
    if share is None or not share.available:
        raise StatusError(NtStatus.BAD_NETWORK_NAME)
    return share


def _check_encryption(connection: Connection, share: Share) -> bool:
    """Whether the share is encrypted; refuses a client that cannot."""
    if share.smb_encrypt == "required" and not connection.cipher_id:
        raise StatusError(NtStatus.ACCESS_DENIED)
    return share.smb_encrypt in ("required", "desired") and bool(connection.cipher_id)


def _open(share: Share) -> vfs.Share | None:
    if share is IPC:
        return None
    try:
        return vfs.open_share(share)
    except OSError as error:
        log.warning("[%s]: %s: %s", share.name, share.path, os.strerror(error.errno or 0))
        raise StatusError(NtStatus.BAD_NETWORK_NAME) from error
