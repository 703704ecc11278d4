"""Files sent from the page cache: in portions, cut off on the way, and given up."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from smbdirect.channel import Channel
from smbdirect.channel_facts import ChannelFacts
from smbdirect.file_window import FileWindow, is_cut, rescue
from tests.smbdirect.far_end import FACTS, TCP, Collected, Peer, run

PAGE = mmap.PAGESIZE
CONTENT = bytes(range(251)) * 16 * PAGE  # some 16 MiB: more than any socket takes
HEADER = b"header"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def window_of(path: Path, start: int = 0, length: int = 0) -> FileWindow:
    fd = os.open(path, os.O_RDWR)
    try:
        return FileWindow(fd, start, length or len(CONTENT) - start)
    finally:
        os.close(fd)


def descriptors(path: Path) -> int:
    """How many of this process lead to the file."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.path.exists(link) and os.readlink(link) == str(path) for link in links)


def by_unix_socket() -> tuple[socket.socket, socket.socket, ChannelFacts]:
    return *socket.socketpair(), FACTS


def by_tcp() -> tuple[socket.socket, socket.socket, ChannelFacts]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        return listener.accept()[0], far, TCP


@pytest.fixture(params=[by_unix_socket, by_tcp])
def sockets(
    request: pytest.FixtureRequest,
) -> Callable[[], tuple[socket.socket, socket.socket, ChannelFacts]]:
    made: Callable[[], tuple[socket.socket, socket.socket, ChannelFacts]] = request.param
    return made


Sockets = Callable[[], tuple[socket.socket, socket.socket, ChannelFacts]]


def test_a_window_is_a_stretch_of_its_file(path: Path) -> None:
    window = window_of(path, PAGE, 2 * PAGE)
    assert bytes(window.view(PAGE + 5, 100)) == CONTENT[PAGE + 5 : PAGE + 105]
    assert window.holds(PAGE, 2 * PAGE)
    assert not window.holds(PAGE - 1, 2)
    assert not window.holds(3 * PAGE - 1, 2)
    with pytest.raises(ValueError):
        window_of(path, 0, len(CONTENT) + 1)


def test_what_is_gone_is_zeros_and_all_else_is_there(path: Path) -> None:
    view = window_of(path).view(5, 4 * PAGE)
    assert not is_cut(view)
    assert not is_cut(b"of no file")
    os.truncate(path, 2 * PAGE + 10)
    assert is_cut(view[PAGE:])
    kept = CONTENT[5 : 2 * PAGE + 10]
    assert rescue(view) == kept + bytes(len(view) - len(kept))
    os.truncate(path, 0)
    assert rescue(view) == bytes(len(view))


def test_a_file_leaves_in_portions_between_other_messages(path: Path, sockets: Sockets) -> None:
    async def story() -> None:
        ours, theirs, facts = sockets()
        channel, peer = Channel(ours, facts), Peer(theirs)
        collected = Collected(channel)
        window = window_of(path)
        channel.send(HEADER, window.view(3, 8 << 20))
        channel.send(b"between")
        channel.send(HEADER, window.view(8 << 20, 4 << 20))
        assert channel.waiting_bytes
        del window
        assert descriptors(path) == 1
        assert await peer.frame() == (0, HEADER + CONTENT[3 : 3 + (8 << 20)])
        assert await peer.frame() == (0, b"between")
        assert await peer.frame() == (0, HEADER + CONTENT[8 << 20 : 12 << 20])
        await asyncio.sleep(0)
        assert descriptors(path) == 0
        channel.close()
        await collected.end

    run(story)


@pytest.mark.parametrize("length", [0, PAGE + 1, (8 << 20) + 3 * PAGE + 77])
def test_a_file_that_is_cut_off_leaves_the_stream_whole(
    path: Path, sockets: Sockets, length: int
) -> None:
    async def story() -> None:
        ours, theirs, facts = sockets()
        channel, peer = Channel(ours, facts), Peer(theirs)
        window = window_of(path)
        channel.cork()
        channel.send(b"x" * (8 << 20))  # of which a part waits for the socket
        channel.send(HEADER, window.view(0, 12 << 20))
        channel.send(b"behind")
        assert channel.waiting_bytes > 12 << 20
        os.truncate(path, length)
        channel.uncork()
        assert await peer.frame() == (0, b"x" * (8 << 20))
        expected = CONTENT[:length] + bytes((12 << 20) - length)
        assert await peer.frame() == (0, HEADER + expected)
        assert await peer.frame() == (0, b"behind")
        assert channel.closed is None
        channel.close()

    run(story)


def test_the_end_of_the_channel_gives_the_file_up(path: Path, sockets: Sockets) -> None:
    async def story() -> None:
        ours, theirs, facts = sockets()
        channel = Channel(ours, facts)
        collected = Collected(channel)
        sent: list[bool] = []
        channel.send(HEADER, window_of(path).view(0, 12 << 20), sent=lambda: sent.append(True))
        assert descriptors(path) == 1
        assert not sent
        theirs.close()
        await collected.end
        assert descriptors(path) == 0
        assert sent == [True]

    run(story)


def test_memory_that_is_no_cut_file_ends_the_channel(path: Path, sockets: Sockets) -> None:
    """EFAULT of anything else, as a file whose disk fails, is not papered over."""

    async def story() -> None:
        ours, theirs, facts = sockets()
        channel = Channel(ours, facts)
        collected = Collected(channel)
        window = window_of(path)
        view = window.view(0, 12 << 20)
        os.truncate(path, 0)
        window.start = -len(window)  # as if it were not cut
        channel.send(HEADER, view)
        await collected.end
        assert "Bad address" in collected.closed[0].words
        theirs.close()

    run(story)
