"""The opcode table: what each command needs before it may run, and who serves it.

Offsets count from the header, as the specification counts them ([MS-SMB2] 2.2.x).
"""

from __future__ import annotations

from smbserver.commands import (
    cancel,
    change_notify,
    close,
    create,
    echo,
    flush,
    ioctl,
    lock,
    logoff,
    negotiate,
    oplock_break,
    query_directory,
    query_info,
    read,
    session_setup,
    set_info,
    tree_connect,
    tree_disconnect,
    write,
)
from smbserver.dispatch import Row
from smbserver.wire.header import Command

TABLE: dict[int, Row] = {
    Command.NEGOTIATE: Row(
        negotiate.serve, need_session=False, need_tree=False, allow_compound=False
    ),
    Command.SESSION_SETUP: Row(
        session_setup.serve,
        need_session=False,
        need_tree=False,
        authenticates=True,
        allow_compound=False,
    ),
    Command.LOGOFF: Row(logoff.serve, need_tree=False, allow_expired=True),
    Command.TREE_CONNECT: Row(tree_connect.serve, need_tree=False),
    Command.TREE_DISCONNECT: Row(tree_disconnect.serve),
    Command.CREATE: Row(create.serve, may_go_async=True, waits_in_chain=True),
    Command.CLOSE: Row(close.serve, file_id=64 + 8, allow_expired=True),
    Command.FLUSH: Row(flush.serve, file_id=64 + 8),
    Command.READ: Row(read.serve, file_id=64 + 16, credit_rule=(64 + 4,), channel=64 + 36),
    Command.WRITE: Row(
        write.serve, file_id=64 + 16, modifies=True, credit_rule=(64 + 4, 64 + 36), channel=64 + 32
    ),
    Command.LOCK: Row(lock.serve, file_id=64 + 8, may_go_async=True, allow_expired=True),
    Command.IOCTL: Row(
        ioctl.serve,
        file_id=64 + 8,
        file_optional=True,
        modifies=True,
        credit_rule=(64 + 28, 64 + 32, 64 + 44),
    ),
    Command.CANCEL: Row(cancel.serve, need_session=False, need_tree=False, allow_expired=True),
    Command.ECHO: Row(echo.serve, need_session=False, need_tree=False, allow_expired=True),
    Command.QUERY_DIRECTORY: Row(query_directory.serve, file_id=64 + 8, credit_rule=(64 + 28,)),
    Command.CHANGE_NOTIFY: Row(
        change_notify.serve, file_id=64 + 8, may_go_async=True, credit_rule=(64 + 4,)
    ),
    Command.QUERY_INFO: Row(query_info.serve, file_id=64 + 24, credit_rule=(64 + 4, 64 + 12)),
    Command.SET_INFO: Row(
        set_info.serve,
        file_id=64 + 16,
        modifies=True,
        credit_rule=(64 + 4,),
        may_go_async=True,
        waits_in_chain=True,
    ),
    Command.OPLOCK_BREAK: Row(oplock_break.serve),
}
