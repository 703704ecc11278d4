from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.vfs.short_names import may_be_made, short_name


@pytest.mark.parametrize("name", ["FILE", "FILE.TXT", "A", "A~1", "12345678.123"])
def test_short_names_stay(name: str) -> None:
    assert short_name(name) == short_name(name.lower()) == name


@given(st.text(st.characters(exclude_characters="/\\\0"), min_size=1, max_size=40))
def test_every_name_has_one(name: str) -> None:
    short = short_name(name)
    if name in (".", ".."):
        assert short == ""
        return
    assert re.fullmatch(r"[^. ]{1,8}(\.[^. ]{1,3})?", short)
    assert short == short.upper()
    assert short == short_name(name.upper() if name.isascii() else name)


def test_made_ones_are_recognised() -> None:
    made = short_name("a long name with an extension.html")
    assert re.fullmatch(r"A[0-9A-Z]{5}~[0-9A-Z]\.HTM", made)
    assert may_be_made(made)
    assert not may_be_made("plain.txt")
    assert short_name("first long name") != short_name("second long name")
