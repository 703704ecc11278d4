"""The codec: examples from the wire, and agreement with the C codec on any bytes."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smbdirect.pdu import (
    BufferDescriptor,
    DataTransfer,
    Malformed,
    NegotiateRequest,
    NegotiateResponse,
    PrivateData,
)

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
any_bytes = st.binary(max_size=64)
with_engine = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

CIFS_REQUEST = bytes.fromhex("00010001 0000 ff00 54050000 54050000 56a70200".replace(" ", ""))
"""What cifs.ko 6.1 sends: 255 credits, 1364-byte segments, 173910-byte messages."""


def requests() -> st.SearchStrategy[NegotiateRequest]:
    return st.builds(NegotiateRequest, u16, u32, u32, u32, u16, u16)


def responses() -> st.SearchStrategy[NegotiateResponse]:
    return st.builds(NegotiateResponse, u16, u16, u32, u32, u32, u32, u32, u16, u16, u16)


def transfers() -> st.SearchStrategy[DataTransfer]:
    return st.builds(DataTransfer, st.integers(1, 0xFFFF), u16, u16, u32, st.binary(max_size=40))


def test_request_of_cifs() -> None:
    request = NegotiateRequest.parse(CIFS_REQUEST)
    assert request == NegotiateRequest(255, 1364, 1364, 173910)
    assert request.pack() == CIFS_REQUEST


@given(requests())
def test_request_round_trip(request_: NegotiateRequest) -> None:
    assert NegotiateRequest.parse(request_.pack()) == request_


@given(responses())
def test_response_round_trip(response: NegotiateResponse) -> None:
    assert NegotiateResponse.parse(response.pack()) == response


@given(transfers())
def test_transfer_round_trip(transfer: DataTransfer) -> None:
    assert DataTransfer.parse(transfer.pack()) == transfer


def test_empty_transfer_is_twenty_bytes() -> None:
    assert len(DataTransfer(255, 10).pack()) == 20
    assert DataTransfer.parse(DataTransfer(255, 10).pack() + bytes(4)).credits_granted == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("shorter than 20", bytes(19)),
        ("requests no credits", DataTransfer(0).pack()),
        ("not a multiple of 8", DataTransfer(1, payload=b"x").pack()[:12] + b"\x19" + bytes(15)),
        ("inside its header", DataTransfer(1, payload=b"x").pack()[:12] + b"\x10" + bytes(15)),
        ("beyond its end", DataTransfer(1, payload=b"xyz").pack()[:-1]),
    ],
)
def test_malformed_transfer(words: str, message: bytes) -> None:
    if "not a multiple" in words or "inside" in words:  # the length that the cut took away
        message = message[:16] + b"\x01\0\0\0" + message[20:]
    with pytest.raises(Malformed, match=words):
        DataTransfer.parse(message)


def test_offset_and_length_that_overflow_32_bits() -> None:
    message = bytearray(DataTransfer(1, payload=b"12345678").pack())
    message[12:16] = (0xFFFFFFF8).to_bytes(4, "little")
    message[16:20] = (16).to_bytes(4, "little")
    with pytest.raises(Malformed, match="beyond its end"):
        DataTransfer.parse(message)


@given(st.lists(st.builds(BufferDescriptor, u64, u32, u32), max_size=5))
def test_descriptors(descriptors: list[BufferDescriptor]) -> None:
    packed = b"".join(descriptor.pack() for descriptor in descriptors)
    assert BufferDescriptor.parse_all(packed) == descriptors


def test_descriptors_cut_short() -> None:
    with pytest.raises(Malformed, match="17 bytes"):
        BufferDescriptor.parse_all(bytes(17))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("00000020 00000001", PrivateData(32, 1)),
        ("20000000 01000000", PrivateData(32, 1)),
        ("00000000 01000000", PrivateData(0, 1)),
        ("00000000 00000001", PrivateData(0, 1)),
        ("00000000 00000000", PrivateData(0, 0)),
    ],
)
def test_private_data_in_either_order(data: str, expected: PrivateData) -> None:
    assert PrivateData.parse(bytes.fromhex(data)) == expected


# Both codecs on the same bytes.


def fields(struct: Any, names: str) -> list[int]:
    return [getattr(struct, name) for name in names.split()]


REQUEST = "credits_requested preferred_send_size max_receive_size max_fragmented_size min_version max_version"
RESPONSE = (
    "credits_requested credits_granted status max_read_write_size preferred_send_size"
    " max_receive_size max_fragmented_size min_version max_version negotiated_version"
)
TRANSFER = "credits_requested credits_granted flags remaining"


@with_engine
@given(any_bytes | requests().map(NegotiateRequest.pack))
def test_c_request(engine: ModuleType, message: bytes) -> None:
    ret = engine.ffi.new("struct smbd_negotiate_request *")
    words = engine.lib.smbd_negotiate_request_parse(message, len(message), ret)
    try:
        request = NegotiateRequest.parse(message)
    except Malformed as error:
        assert engine.ffi.string(words).decode() == str(error)
        return
    assert not words
    assert fields(ret, REQUEST) == fields(request, REQUEST)
    built = engine.ffi.new("uint8_t[20]")
    engine.lib.smbd_negotiate_request_build(ret, built)
    assert bytes(built) == request.pack()


@with_engine
@given(any_bytes | responses().map(NegotiateResponse.pack))
def test_c_response(engine: ModuleType, message: bytes) -> None:
    ret = engine.ffi.new("struct smbd_negotiate_response *")
    words = engine.lib.smbd_negotiate_response_parse(message, len(message), ret)
    try:
        response = NegotiateResponse.parse(message)
    except Malformed as error:
        assert engine.ffi.string(words).decode() == str(error)
        return
    assert not words
    assert fields(ret, RESPONSE) == fields(response, RESPONSE)
    built = engine.ffi.new("uint8_t[32]")
    engine.lib.smbd_negotiate_response_build(ret, built)
    assert bytes(built) == response.pack()


def mangled() -> st.SearchStrategy[bytes]:
    """Data transfer messages with any numbers in the places that matter."""
    small = st.integers(0, 64)
    return st.builds(
        lambda wanted, remaining, offset, length, rest: b"".join(
            (
                wanted.to_bytes(2, "little"),
                bytes(6),
                remaining.to_bytes(4, "little"),
                offset.to_bytes(4, "little"),
                length.to_bytes(4, "little"),
                rest,
            )
        ),
        st.integers(0, 2),
        u32,
        small | u32 | st.just(24),
        small | u32,
        st.binary(max_size=64),
    )


@with_engine
@given(any_bytes | mangled() | transfers().map(DataTransfer.pack))
@example(b"\x01" + bytes(11) + b"\xf8\xff\xff\xff\x10\0\0\0" + bytes(40))
def test_c_transfer(engine: ModuleType, message: bytes) -> None:
    ffi = engine.ffi
    ret, payload = ffi.new("struct smbd_data_transfer *"), ffi.new("uint8_t **")
    # exactly as long as the message, so that a byte too many would be seen by a sanitizer
    held = ffi.new("uint8_t[]", message) if message else ffi.NULL
    words = engine.lib.smbd_data_transfer_parse(held, len(message), ret, payload)
    try:
        transfer = DataTransfer.parse(message)
    except Malformed as error:
        assert ffi.string(words).decode() == str(error)
        return
    assert not words
    assert fields(ret, TRANSFER) == fields(transfer, TRANSFER)
    assert ret.length == len(transfer.payload)
    assert not ret.length or bytes(ffi.buffer(payload[0], ret.length)) == transfer.payload
    built = ffi.new("uint8_t[24]")
    size = engine.lib.smbd_data_transfer_build(ret, built)
    assert bytes(built)[:size] == transfer.pack()[: 24 if transfer.payload else 20]


@with_engine
@given(st.binary(max_size=12) | st.builds(PrivateData, u32, u32).map(PrivateData.pack))
def test_c_private_data(engine: ModuleType, data: bytes) -> None:
    ret = engine.ffi.new("struct smbd_private_data *")
    if not engine.lib.smbd_private_data_parse(data, len(data), ret):
        with pytest.raises(Malformed):
            PrivateData.parse(data)
        return
    assert PrivateData(ret.ird, ret.ord) == PrivateData.parse(data)


@with_engine
@given(st.builds(BufferDescriptor, u64, u32, u32))
def test_c_descriptor(engine: ModuleType, descriptor: BufferDescriptor) -> None:
    ret, built = engine.ffi.new("struct buffer_descriptor *"), engine.ffi.new("uint8_t[16]")
    engine.lib.smbd_descriptor_parse(descriptor.pack(), ret)
    assert (ret.offset, ret.token, ret.length) == (
        descriptor.offset,
        descriptor.token,
        descriptor.length,
    )
    engine.lib.smbd_descriptor_build(ret, built)
    assert bytes(built) == descriptor.pack()
