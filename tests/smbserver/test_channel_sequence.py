"""ChannelSequence of an open ([MS-SMB2] 3.3.5.2.10)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smbserver import access, share_modes
from smbserver.open import Open
from smbserver.parameters import Share as ShareParameters
from smbserver.session import Session
from smbserver.store import Store
from smbserver.tree import Tree
from smbserver.vfs import open_share
from smbserver.vfs.names import parse_name
from smbserver.wire.negotiate import Dialect


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    share_modes.attach(Store())
    parameters = ShareParameters(name="share", path=str(tmp_path), read_only=False)
    share = open_share(parameters)
    session = Session(1, Dialect.SMB_3_1_1, bytes(16))
    tree = Tree(1, session, parameters, share, access.ALL)
    location = share.look_up(parse_name("file"))
    handle = share.create_file(location, 0)
    file = share_modes.enter((*handle.identity, ""), "file", access.ALL, 7)
    opened = Open(tree, handle, file, access.ALL, 7)
    yield opened
    opened.close()
    share.close()


def test_a_sequence_may_advance_by_half_its_range_and_wraps(opened: Open) -> None:
    story = [
        (0x8000, False),
        (0x8001, False),
        (0xFFFF, False),
        (0x7FFF, True),
        (0x7FFE, False),
        (0, False),
        (0x8000, True),
        (0xFFFF, True),
        (0, True),
        (1, True),
        (0, False),
        (1, True),
        (0xFFFF, False),
    ]
    for sequence, accepted in story:
        assert opened.begin(sequence, is_replay=False) == accepted, hex(sequence)
        if accepted:
            opened.finish(sequence)


def test_a_replay_is_refused_while_the_original_may_still_be_under_way(opened: Open) -> None:
    assert opened.begin(0, is_replay=False)
    assert opened.begin(1, is_replay=False)
    assert not opened.begin(1, is_replay=True)
    opened.finish(0)
    assert opened.begin(1, is_replay=True)
    opened.finish(1)
    opened.finish(1)
    assert (opened.requests, opened.earlier_requests) == (0, 0)
