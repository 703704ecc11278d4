"""The MessageIds that a client may use: its credits ([MS-SMB2] 3.3.1.1, 3.3.1.2)."""

from __future__ import annotations

from typing import Any

from smbserver._smb2 import ffi, lib


class MessageWindow:
    """Ids from `low` to `high` are granted; those used out of order are remembered until `low` passes them.

    It is kept in C (csrc/smb2_window.h), where READs are also answered without Python.
    """

    __slots__ = ("window",)

    def __init__(self, limit: int, first: int = 0, high: int | None = None) -> None:
        """The first id is granted; with `high`, all before that are."""
        window = lib.smb2_window_create(limit, first)
        if not window:
            raise MemoryError(f"no memory for a window of {limit} MessageIds")
        self.window: Any = ffi.gc(window, lib.smb2_window_destroy)
        if high is not None:
            window.high = high

    @property
    def low(self) -> int:
        return int(self.window.low)

    @property
    def high(self) -> int:
        return int(self.window.high)

    def take(self, message_id: int, charge: int) -> bool:
        """Use `charge` ids; False if one of them was used before or never granted."""
        return bool(lib.smb2_window_take(self.window, message_id, charge))

    @property
    def is_in_order(self) -> bool:
        """Whether every id below `low` was used, and none above."""
        return not self.window.ahead

    def grant(self, wanted: int) -> int:
        """Credits for a response: what is wanted, within the limit; at least one if the client has none."""
        return int(lib.smb2_window_grant(self.window, wanted))
