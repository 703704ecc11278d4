"""The MessageIds that a client may use: its credits ([MS-SMB2] 3.3.1.1, 3.3.1.2)."""

from __future__ import annotations


class MessageWindow:
    """Ids from `low` to `high` are granted; those used out of order are remembered until `low` passes them."""

    __slots__ = ("_limit", "_used", "high", "low")

    def __init__(self, limit: int, first: int = 0) -> None:
        self._limit = limit
        self.low = first
        self.high = first + 1
        self._used: set[int] = set()

    def take(self, message_id: int, charge: int) -> bool:
        """Use `charge` ids; False if one of them was used before or never granted."""
        end = message_id + charge
        if message_id < self.low or end > self.high:
            return False
        if message_id == self.low and not self._used:
            self.low = end
            return True
        used = self._used
        ids = range(message_id, end)
        if not used.isdisjoint(ids):
            return False
        used.update(ids)
        while self.low in used:
            used.remove(self.low)
            self.low += 1
        return True

    @property
    def is_in_order(self) -> bool:
        """Whether every id below `low` was used, and none above."""
        return not self._used

    def grant(self, wanted: int) -> int:
        """Credits for a response: what is wanted, within the limit; at least one if the client has none."""
        room = self._limit - (self.high - self.low)
        granted = max(min(wanted, room), 1 if self.high == self.low else 0)
        self.high += granted
        return granted
