"""Wildcards of DOS, as QUERY_DIRECTORY uses them ([MS-FSA] 2.1.4.4).

A set of positions in the expression walks over the name, so that no expression costs more than its
length times the name's length; a client chooses both.
"""

from __future__ import annotations

from smbserver.vfs.names import fold

DOS_STAR = "<"
"""Like `*`, but never over the last dot of the name."""
DOS_QM = ">"
"""One character; nothing before a dot and at the end of the name."""
DOS_DOT = '"'
"""A dot, or nothing at the end of the name."""

_MATCHES_NOTHING = frozenset("*" + DOS_STAR + DOS_QM + DOS_DOT)
_WILD = frozenset("*?" + DOS_STAR + DOS_QM + DOS_DOT)


def has_wildcard(expression: str) -> bool:
    """Whether the expression can match more than one name."""
    return not _WILD.isdisjoint(expression)


class Expression:
    """An expression made ready to be held against many names."""

    __slots__ = ("_folded",)

    def __init__(self, expression: str) -> None:
        self._folded = fold(expression)

    def matches(self, name: str) -> bool:
        """Whether the whole name, without regard to case, is described by the expression."""
        expression = self._folded
        if expression == "*":
            return True
        name = fold(name)
        last_dot = name.rfind(".")
        positions = {0}
        for index, character in enumerate(name):
            positions = self._advance(positions, character, index == last_dot)
            if not positions:
                return False
        return any(_MATCHES_NOTHING.issuperset(expression[at:]) for at in positions)

    def _advance(self, positions: set[int], character: str, is_last_dot: bool) -> set[int]:
        """Where the expression may stand after one more character of the name."""
        expression, end = self._folded, len(self._folded)
        after: set[int] = set()
        waiting, seen = list(positions), set(positions)
        while waiting:
            at = waiting.pop()
            if at == end:
                continue
            symbol = expression[at]
            skips = False
            if symbol == "*" or symbol == DOS_STAR:
                skips = True
                if symbol == "*" or not is_last_dot:
                    after.add(at)
            elif symbol == DOS_QM:
                skips = character == "."
                if not skips:
                    after.add(at + 1)
            elif symbol == "?" or symbol == character or (symbol == DOS_DOT and character == "."):
                after.add(at + 1)
            if skips and at + 1 not in seen:
                seen.add(at + 1)
                waiting.append(at + 1)
        return after
