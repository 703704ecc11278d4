from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver.vfs.names import ShareName, fold, is_shown, parse_name
from smbserver.wire.status import NtStatus, StatusError


@pytest.mark.parametrize(
    ("name", "components", "stream"),
    [
        ("", (), ""),
        ("file", ("file",), ""),
        ("a\\b\\c.txt", ("a", "b", "c.txt"), ""),
        ("a/b", ("a", "b"), ""),
        ("a\\b\\..\\..\\c", ("c",), ""),
        ("a\\..", (), ""),
        ("a\\\\b\\", ("a", "b"), ""),
        ("file:zone:$DATA", ("file",), "zone"),
        ("file:zone", ("file",), "zone"),
        (":root", (), "root"),
        ("größe 😀.txt", ("größe 😀.txt",), ""),
    ],
)
def test_what_a_name_is_made_of(name: str, components: tuple[str, ...], stream: str) -> None:
    assert parse_name(name) == ShareName(components, stream)


def test_what_streams_say() -> None:
    assert parse_name("folder::$INDEX_ALLOCATION") == ShareName(("folder",), "", "directory")
    assert parse_name("file::$data") == ShareName(("file",), "", "file")
    assert parse_name('file:any "*" <?>|') == ShareName(("file",), 'any "*" <?>|')


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("\\file", NtStatus.INVALID_PARAMETER),
        ("..", NtStatus.OBJECT_PATH_SYNTAX_BAD),
        ("a\\..\\..\\b", NtStatus.OBJECT_PATH_SYNTAX_BAD),
        (".", NtStatus.OBJECT_NAME_INVALID),
        ("a\\.\\b", NtStatus.OBJECT_NAME_INVALID),
        ("/etc/passwd", NtStatus.INVALID_PARAMETER),
        ("../b", NtStatus.OBJECT_PATH_SYNTAX_BAD),
        ("nul\0byte", NtStatus.OBJECT_NAME_INVALID),
        ("star*", NtStatus.OBJECT_NAME_INVALID),
        ("file:", NtStatus.OBJECT_NAME_INVALID),
        ("file:a/b", NtStatus.OBJECT_NAME_INVALID),
        ("file:a:b:c", NtStatus.OBJECT_NAME_INVALID),
        ("file:a:$OTHER", NtStatus.OBJECT_NAME_INVALID),
        ("fol:der\\file", NtStatus.OBJECT_NAME_INVALID),
        ("lone \ud800", NtStatus.OBJECT_NAME_INVALID),
        ("file:\udc00", NtStatus.OBJECT_NAME_INVALID),
        ("x" * 256, NtStatus.OBJECT_NAME_INVALID),
        ("ä" * 128, NtStatus.OBJECT_NAME_INVALID),
    ],
)
def test_names_that_no_file_can_have(name: str, status: NtStatus) -> None:
    with pytest.raises(StatusError) as refused:
        parse_name(name)
    assert refused.value.status == status


@given(st.text(st.characters(), max_size=40))
def test_nothing_gets_through_that_means_another_place(name: str) -> None:
    try:
        parsed = parse_name(name)
    except StatusError:
        return
    for part in parsed.components:
        assert part not in ("", ".", "..")
        assert "/" not in part
        assert "\0" not in part
        assert is_shown(part)


def test_folding_keeps_different_letters_apart() -> None:
    assert fold("Größe") == fold("GRÖßE")
    assert fold("straße") != fold("STRASSE")
