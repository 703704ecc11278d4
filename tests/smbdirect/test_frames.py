"""Frames: what is packed is parsed, and no body makes a parser do anything but return or say Malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbdirect import frames
from smbdirect.pdu import BufferDescriptor

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
WORDS = st.text(max_size=200).filter(lambda words: "\ud800" not in words)
DESCRIPTOR = st.builds(BufferDescriptor, U64, U32, U32)
DESCRIPTORS = st.binary(min_size=1, max_size=8).map(lambda seed: seed * 16)

FRAMES = st.one_of(
    st.builds(frames.Pool, U64),
    st.builds(frames.PoolReady, U32, U32, U64, WORDS),
    st.builds(
        frames.Rdma,
        st.sampled_from([frames.FrameType.RDMA_WRITE, frames.FrameType.RDMA_READ]),
        U64,
        U32,
        U64,
        U64,
        DESCRIPTORS,
    ),
    st.builds(frames.Done, U64, U32, U64),
    st.builds(frames.SendInvalidate, U32),
    st.builds(frames.Expose, U64, U32, U32, U64, U64),
    st.builds(frames.Exposed, U64, U32, DESCRIPTOR),
    st.builds(frames.Revoke, U64, U32),
    st.builds(frames.Closed, U32, WORDS),
)

PARSERS = {
    frames.FrameType.POOL: frames.Pool.parse,
    frames.FrameType.POOL_READY: frames.PoolReady.parse,
    frames.FrameType.RDMA_WRITE: lambda b: frames.Rdma.parse(frames.FrameType.RDMA_WRITE, b),
    frames.FrameType.RDMA_READ: lambda b: frames.Rdma.parse(frames.FrameType.RDMA_READ, b),
    frames.FrameType.DONE: frames.Done.parse,
    frames.FrameType.SEND_INVALIDATE: frames.SendInvalidate.parse,
    frames.FrameType.EXPOSE: frames.Expose.parse,
    frames.FrameType.EXPOSED: frames.Exposed.parse,
    frames.FrameType.REVOKE: frames.Revoke.parse,
    frames.FrameType.CLOSED: frames.Closed.parse,
}


@given(FRAMES)
def test_a_packed_frame_is_parsed_to_the_same(frame: frames.Frame) -> None:
    packed = frame.pack()
    (word,) = frames.HEADER.unpack_from(packed)
    assert word & frames.LENGTH_MASK == len(packed) - frames.HEADER_SIZE
    body = memoryview(packed)[frames.HEADER_SIZE :]
    assert len(body) <= frames.BODY_MAX
    assert PARSERS[frames.FrameType(word >> 24)](body) == frame


@given(st.sampled_from(sorted(PARSERS)), st.binary(max_size=5000))
def test_any_body_is_parsed_or_malformed(kind: frames.FrameType, body: bytes) -> None:
    try:
        frame = PARSERS[kind](memoryview(body))
    except frames.Malformed:
        return
    assert frame.pack()[0] == kind


def test_numbers_are_little_endian_and_where_the_specification_says() -> None:
    frame = frames.Rdma(frames.FrameType.RDMA_WRITE, 1, 2, 3, 4, bytes(range(16)))
    assert frame.pack().hex() == (
        "82000030" "0100000000000000" "02000000" "01000000" "0300000000000000" "0400000000000000"
        "000102030405060708090a0b0c0d0e0f"
    )  # fmt: skip
    assert frames.Done(5, 1, 6).pack().hex() == (
        "84000018" "0500000000000000" "01000000" "00000000" "0600000000000000"
    )  # fmt: skip


@pytest.mark.parametrize("count", [0, 257])
def test_descriptors_are_1_to_256(count: int) -> None:
    with pytest.raises(frames.Malformed, match="1 to 256"):
        frames.pack_rdma(frames.FrameType.RDMA_READ, 1, 1, 0, 1, bytes(16 * count))


def test_a_count_that_does_not_match_the_descriptors_is_malformed() -> None:
    body = frames.RDMA.pack(1, 1, 2, 0, 1) + bytes(16)
    with pytest.raises(frames.Malformed, match="16 bytes"):
        frames.Rdma.parse(frames.FrameType.RDMA_READ, memoryview(body))


def test_words_are_bounded() -> None:
    with pytest.raises(frames.Malformed, match="words"):
        frames.Closed.parse(memoryview(bytes(4) + b"x" * (frames.WORDS_MAX + 1)))


def test_every_status_has_words() -> None:
    assert all(frames.status_words(status) for status in frames.Status)
    assert frames.status_words(77) == "status 77"
