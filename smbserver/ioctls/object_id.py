"""FSCTL_CREATE_OR_GET_OBJECT_ID and FSCTL_GET_OBJECT_ID ([MS-FSCC] 2.1.3.1, 2.3.3).

The id is made of device and inode, so that it need not be stored: it lasts as long as the file.
"""

from __future__ import annotations

import os
from struct import Struct

from smbserver.dispatch import Call
from smbserver.ioctls.data_open import open_of
from smbserver.wire.ioctl import IoctlRequest

_OBJECT_ID = Struct("<QQ16s16s16s")


def serve(call: Call, request: IoctlRequest) -> bytes:
    """FILE_OBJECTID_BUFFER: object, birth volume, birth object, domain."""
    opened = open_of(call)
    device, inode = opened.handle.identity
    birth = Struct("<QQ").pack(device, inode)
    share = opened.tree.vfs
    volume = os.fstat(share.root).st_dev if share is not None else 0
    return _OBJECT_ID.pack(device, inode, volume.to_bytes(16, "little"), birth, bytes(16))
