from __future__ import annotations

import time

import pytest

from smbserver.vfs.wildcard import Expression, has_wildcard


@pytest.mark.parametrize(
    ("expression", "matching", "other"),
    [
        ("*", ["a", "a.b", ".", "größe 😀"], []),
        ("*.txt", ["a.txt", ".txt", "A.B.TXT"], ["atxt", "a.txt.b"]),
        ("a*b*c", ["abc", "aXbYc", "abbcc"], ["ab", "abcd"]),
        ("?.c", ["a.c"], [".c", "ab.c"]),
        ("FILE", ["file", "File"], ["file1"]),
        ("<.txt", ["a.txt", "a.b.txt"], ["txt", "a.txt.b"]),
        ("<", ["a", "abc", ""], ["a.b"]),
        ('<"', ["a", "a."], ["a.b"]),
        ('<"*', ["a", "a.", "a.b", "a.b.c"], []),
        (">>>", ["a", "ab", "abc", ""], ["abcd", "a.b"]),
        (">>>.c", ["a.c", "abc.c", ".c"], ["abcd.c", "a.d"]),
        ('a"', ["a", "a."], ["ab"]),
        ('a"b', ["a.b"], ["ab"]),
        ("", [""], ["a"]),
    ],
)
def test_what_matches(expression: str, matching: list[str], other: list[str]) -> None:
    ready = Expression(expression)
    assert [name for name in matching if not ready.matches(name)] == []
    assert [name for name in other if ready.matches(name)] == []


def test_which_expressions_can_match_several_names() -> None:
    assert [has_wildcard(text) for text in ("a.b", "*", "a?", "<", ">", 'a"')] == [False] + [
        True
    ] * 5


def test_no_expression_is_dear() -> None:
    expression = Expression("*a" * 60 + "b")
    before = time.process_time()
    assert not expression.matches("a" * 255)
    assert time.process_time() - before < 2, (
        "a backtracking matcher needs longer than the universe has been"
    )
