"""Every message: what is packed is parsed again, and what is not a message is Malformed, only that."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smbserver.wire.bounds import HEADER_SIZE
from smbserver.wire.create_contexts import CreateContext, pack_contexts, parse_contexts
from smbserver.wire.errors import Malformed
from smbserver.wire.header import MAX_COMPOUND, Header, split_compound
from smbserver.wire.oplock_break import parse_break
from smbserver.wire.rdma_channel import RdmaChannel
from smbserver.wire.read import ReadRequest, ReadResponse
from smbserver.wire.smb1 import MultiProtocolNegotiate
from smbserver.wire.transform import TransformHeader
from smbserver.wire.write import WriteRequest, WriteResponse
from tests.smbserver.wire.messages import MESSAGES, file_ids, headers

HEADER = Header().pack()


def whole(body: bytes) -> memoryview:
    return memoryview(HEADER + body)


def plain(value: Any) -> Any:
    """Views as bytes, so that equality does not depend on where data lies."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
        return type(value), fields
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, tuple):
        return tuple(plain(one) for one in value)
    return value


@pytest.mark.hypothesis
@pytest.mark.parametrize("strategy", MESSAGES.values(), ids=MESSAGES.keys())
def test_round_trip(strategy: st.SearchStrategy[Any]) -> None:
    @given(strategy)
    def check(message: Any) -> None:
        parsed = type(message).parse(whole(message.pack()))
        assert plain(parsed) == plain(message)
        assert parsed.pack() == message.pack()

    check()


@pytest.mark.hypothesis
@pytest.mark.parametrize("strategy", MESSAGES.values(), ids=MESSAGES.keys())
def test_every_truncation_is_malformed_or_still_a_message(
    strategy: st.SearchStrategy[Any],
) -> None:
    @given(strategy, st.data())
    def check(message: Any, draw: st.DataObject) -> None:
        packed = whole(message.pack())
        kept = draw.draw(st.integers(0, len(packed)))
        try:
            type(message).parse(packed[:kept])
        except Malformed:
            pass

    check()


@pytest.mark.hypothesis
@pytest.mark.parametrize("strategy", MESSAGES.values(), ids=MESSAGES.keys())
def test_hostile_bytes_are_malformed_or_a_message(strategy: st.SearchStrategy[Any]) -> None:
    """Bytes of a good message are overwritten, so that offsets, lengths and counts turn hostile."""

    @given(strategy, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=6))
    def check(message: Any, changes: list[tuple[int, int]]) -> None:
        packed = bytearray(whole(message.pack()))
        for position, value in changes:
            at = HEADER_SIZE + 2 + position % (len(packed) - HEADER_SIZE)
            if at < len(packed):
                packed[at] = value
        try:
            type(message).parse(memoryview(packed))
        except Malformed:
            pass

    check()


@given(st.binary(max_size=300))
def test_random_bytes_are_malformed_or_a_message(raw: bytes) -> None:
    parsers = [Header.parse, TransformHeader.parse, MultiProtocolNegotiate.parse, split_compound]
    for parse in (*parsers, parse_break):
        try:
            parse(memoryview(raw))
        except Malformed:
            pass


@given(headers)
def test_header_round_trip(header: Header) -> None:
    assert Header.parse(header.pack()) == header
    assert len(header.pack()) == HEADER_SIZE


@given(st.integers(0, (1 << 64) - 1))
def test_async_id_stands_where_process_and_tree_do(number: int) -> None:
    header = Header()
    header.async_id = number
    assert Header.parse(header.pack()).async_id == number


@pytest.mark.parametrize("broken", [b"", HEADER[:-1], b"\xffSMB" + HEADER[4:], bytes(64)])
def test_what_is_no_header(broken: bytes) -> None:
    with pytest.raises(Malformed):
        Header.parse(broken)


def compound(*bodies: bytes) -> bytes:
    messages = []
    for position, body in enumerate(bodies):
        last = position == len(bodies) - 1
        padded = body if last else body + bytes(-len(body) % 8)
        header = Header(message_id=position, next_command=0 if last else 64 + len(padded))
        messages.append(header.pack() + padded)
    return b"".join(messages)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=10))
def test_a_compound_is_split(bodies: list[bytes]) -> None:
    parts = split_compound(memoryview(compound(*bodies)))
    assert len(parts) == len(bodies)
    for position, (part, body) in enumerate(zip(parts, bodies, strict=True)):
        assert Header.parse(part).message_id == position
        assert bytes(part[64 : 64 + len(body)]) == body


@pytest.mark.parametrize("step", [1, 8, 63, 65, 72, 128, 0xFFFFFFF8])
def test_a_compound_that_leads_nowhere(step: int) -> None:
    with pytest.raises(Malformed):
        split_compound(memoryview(Header(next_command=step).pack() + bytes(63)))


def test_a_compound_has_a_limit() -> None:
    assert len(split_compound(memoryview(compound(*[b""] * MAX_COMPOUND)))) == MAX_COMPOUND
    with pytest.raises(Malformed):
        split_compound(memoryview(compound(*[b""] * (MAX_COMPOUND + 1))))


@given(file_ids, st.integers(1, 400))
def test_channel_information_must_be_descriptors(file_id: Any, length: int) -> None:
    request = ReadRequest(file_id, 0, 1 << 20, 0, RdmaChannel.RDMA_V1, 0, bytes(length))
    message = whole(request.pack())
    if length % 16:
        with pytest.raises(Malformed):
            ReadRequest.parse(message)
    else:
        assert len(ReadRequest.parse(message).channel_info) == length


def test_sizes_that_clients_insist_on() -> None:
    """A READ response by RDMA has exactly 80 bytes, and so has every WRITE response."""
    assert len(whole(ReadResponse(b"", data_remaining=1 << 20).pack())) == 80
    assert len(whole(WriteResponse(1 << 20).pack())) == 80
    file_id: Any = (1, 2)
    request = WriteRequest(file_id, 0, b"", RdmaChannel.RDMA_V1_INVALIDATE, 4096, bytes(16))
    assert len(whole(request.pack())) == 128


@example(("NT LM 0.12", "SMB 2.002", "SMB 2.???"))
@given(st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=126)), min_size=1).map(tuple))
def test_multi_protocol_negotiate_round_trip(dialects: tuple[str, ...]) -> None:
    request = MultiProtocolNegotiate(dialects)
    assert MultiProtocolNegotiate.parse(request.pack()) == request


def test_create_context_offsets_count_from_the_context() -> None:
    """The second context of a list must not be read relative to the first."""
    contexts = (CreateContext(b"aaaa", b"first"), CreateContext(b"bbbb", b"second"))
    assert plain(parse_contexts(pack_contexts(contexts))) == plain(contexts)
