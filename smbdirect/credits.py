"""What may be sent, and what is granted ([MS-SMBD] 3.1.1.1, 3.1.5.1, 3.1.5.8, 3.1.5.9).

One credit is one receive that the other side has posted for us, and pays for one Send of any kind. `grantable` is a
counter of its own, not the difference of others: a completion that is on its way would make such a difference too
large, and a receive would be granted twice.
"""

from __future__ import annotations

from dataclasses import dataclass

SEND_CREDITS_MAX = 65535
"""Credits held at most: CreditsGranted has 16 bits and no adapter holds more receives."""
CREDITS_MIN = 4
"""The least that is asked for and posted: with fewer on both sides, empty messages that grant answer each other."""


@dataclass(slots=True)
class Credits:
    send_target: int
    """How many we would like: CreditsRequested of every message."""
    receive_max: int
    """How many receives we post at most."""
    send: int = 0
    """Messages that we may send."""
    posted: int = 0
    """Receives that the queue pair holds ..."""
    receive: int = 0
    """... of these, granted to the peer and not used by it yet ..."""
    grantable: int = 0
    """... of these, not granted yet: grows when a receive is posted, shrinks when a message grants it."""
    receive_target: int = 0
    """How many the peer would like."""

    def missing(self) -> int:
        """Receives to be posted."""
        return max(0, min(self.receive_target, self.receive_max) - self.posted)

    def add_posted(self, count: int) -> None:
        self.posted += count
        self.grantable += count

    def used(self) -> bool:
        """A message arrived. False: the peer had no credit for it."""
        if self.receive == 0:
            return False
        self.receive -= 1
        self.posted -= 1
        return True

    def granted(self, count: int) -> bool:
        """The peer grants. False: more than receives can be posted."""
        if self.send + count > SEND_CREDITS_MAX:
            return False
        self.send += count
        return True

    def _next_grant(self) -> int:
        return min(self.grantable, max(0, self.receive_target - self.receive))

    def may_send(self) -> bool:
        """The last credit goes only to a message that grants one, else both sides could fall silent for ever."""
        return self.send > 1 or (self.send == 1 and self._next_grant() > 0)

    def grant(self) -> int:
        """Takes CreditsGranted for a message that goes out."""
        count = self._next_grant()
        self.grantable -= count
        self.receive += count
        return count

    def spend(self) -> int:
        """The same, and pays one credit for the message."""
        self.send -= 1
        return self.grant()

    def peer_is_low(self) -> bool:
        """A quarter of its target is left, or one credit: time to grant, with an empty message if need be."""
        return self._next_grant() > 0 and self.receive <= max(1, self.receive_target // 4)
