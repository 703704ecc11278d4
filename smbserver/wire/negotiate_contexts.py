"""Negotiate contexts of dialect 3.1.1 ([MS-SMB2] 2.2.3.1, 2.2.4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from struct import unpack_from as struct_unpack_from
from typing import ClassVar

from smbserver.wire.bounds import (
    Buffer,
    Malformed,
    padding,
    slice_at,
    unpack_from,
    utf16_decode,
    utf16_encode,
)

MAX_CONTEXTS = 64
"""Contexts in one message. Clients send fewer than ten; a bound keeps the loop short."""

_CONTEXT = Struct("<HHI")
_COUNT = Struct("<H")
_TWO_COUNTS = Struct("<HH")
_COMPRESSION = Struct("<HHI")
_TRANSPORT = Struct("<I")
_RDMA_TRANSFORM = Struct("<HHI")


class ContextType(IntEnum):
    """NegotiateContext.ContextType."""

    PREAUTH_INTEGRITY_CAPABILITIES = 0x0001
    ENCRYPTION_CAPABILITIES = 0x0002
    COMPRESSION_CAPABILITIES = 0x0003
    NETNAME_NEGOTIATE_CONTEXT_ID = 0x0005
    TRANSPORT_CAPABILITIES = 0x0006
    RDMA_TRANSFORM_CAPABILITIES = 0x0007
    SIGNING_CAPABILITIES = 0x0008
    POSIX_EXTENSIONS = 0x0100


class HashAlgorithm(IntEnum):
    """HashAlgorithms of PREAUTH_INTEGRITY_CAPABILITIES."""

    SHA512 = 0x0001


class EncryptionCipher(IntEnum):
    """Ciphers of ENCRYPTION_CAPABILITIES."""

    NONE = 0x0000
    AES_128_CCM = 0x0001
    AES_128_GCM = 0x0002
    AES_256_CCM = 0x0003
    AES_256_GCM = 0x0004


class SigningAlgorithm(IntEnum):
    """SigningAlgorithms of SIGNING_CAPABILITIES."""

    HMAC_SHA256 = 0x0000
    AES_CMAC = 0x0001
    AES_GMAC = 0x0002


def _numbers(data: Buffer, offset: int, count: int, name: str) -> tuple[int, ...]:
    raw = slice_at(data, offset, 2 * count, 0, name)
    return struct_unpack_from(f"<{count}H", raw)


def _pack_numbers(numbers: Iterable[int]) -> bytes:
    return b"".join(_COUNT.pack(number) for number in numbers)


@dataclass(frozen=True, slots=True)
class PreauthIntegrityCapabilities:
    """SMB2_PREAUTH_INTEGRITY_CAPABILITIES ([MS-SMB2] 2.2.3.1.1)."""

    hash_algorithms: tuple[int, ...] = (HashAlgorithm.SHA512,)
    salt: bytes = b""
    context_type: ClassVar[int] = ContextType.PREAUTH_INTEGRITY_CAPABILITIES

    @classmethod
    def parse(cls, data: Buffer) -> PreauthIntegrityCapabilities:
        count, salt_length = unpack_from(_TWO_COUNTS, data, 0, "PREAUTH_INTEGRITY_CAPABILITIES")
        numbers = _numbers(data, _TWO_COUNTS.size, count, "HashAlgorithms")
        salt = slice_at(data, _TWO_COUNTS.size + 2 * count, salt_length, 0, "Salt")
        return cls(numbers, bytes(salt))

    def pack(self) -> bytes:
        counts = _TWO_COUNTS.pack(len(self.hash_algorithms), len(self.salt))
        return counts + _pack_numbers(self.hash_algorithms) + self.salt


@dataclass(frozen=True, slots=True)
class EncryptionCapabilities:
    """SMB2_ENCRYPTION_CAPABILITIES ([MS-SMB2] 2.2.3.1.2)."""

    ciphers: tuple[int, ...]
    context_type: ClassVar[int] = ContextType.ENCRYPTION_CAPABILITIES

    @classmethod
    def parse(cls, data: Buffer) -> EncryptionCapabilities:
        (count,) = unpack_from(_COUNT, data, 0, "ENCRYPTION_CAPABILITIES")
        return cls(_numbers(data, _COUNT.size, count, "Ciphers"))

    def pack(self) -> bytes:
        return _COUNT.pack(len(self.ciphers)) + _pack_numbers(self.ciphers)


@dataclass(frozen=True, slots=True)
class CompressionCapabilities:
    """SMB2_COMPRESSION_CAPABILITIES ([MS-SMB2] 2.2.3.1.3)."""

    compression_algorithms: tuple[int, ...]
    flags: int = 0
    context_type: ClassVar[int] = ContextType.COMPRESSION_CAPABILITIES

    @classmethod
    def parse(cls, data: Buffer) -> CompressionCapabilities:
        count, _, flags = unpack_from(_COMPRESSION, data, 0, "COMPRESSION_CAPABILITIES")
        return cls(_numbers(data, _COMPRESSION.size, count, "CompressionAlgorithms"), flags)

    def pack(self) -> bytes:
        numbers = self.compression_algorithms
        return _COMPRESSION.pack(len(numbers), 0, self.flags) + _pack_numbers(numbers)


@dataclass(frozen=True, slots=True)
class NetnameNegotiateContext:
    """SMB2_NETNAME_NEGOTIATE_CONTEXT_ID ([MS-SMB2] 2.2.3.1.4)."""

    net_name: str
    context_type: ClassVar[int] = ContextType.NETNAME_NEGOTIATE_CONTEXT_ID

    @classmethod
    def parse(cls, data: Buffer) -> NetnameNegotiateContext:
        return cls(utf16_decode(data, "NetName"))

    def pack(self) -> bytes:
        return utf16_encode(self.net_name)


@dataclass(frozen=True, slots=True)
class TransportCapabilities:
    """SMB2_TRANSPORT_CAPABILITIES ([MS-SMB2] 2.2.3.1.5)."""

    flags: int
    context_type: ClassVar[int] = ContextType.TRANSPORT_CAPABILITIES

    @classmethod
    def parse(cls, data: Buffer) -> TransportCapabilities:
        return cls(*unpack_from(_TRANSPORT, data, 0, "TRANSPORT_CAPABILITIES"))

    def pack(self) -> bytes:
        return _TRANSPORT.pack(self.flags)


@dataclass(frozen=True, slots=True)
class RdmaTransformCapabilities:
    """SMB2_RDMA_TRANSFORM_CAPABILITIES ([MS-SMB2] 2.2.3.1.6)."""

    rdma_transform_ids: tuple[int, ...]
    context_type: ClassVar[int] = ContextType.RDMA_TRANSFORM_CAPABILITIES

    @classmethod
    def parse(cls, data: Buffer) -> RdmaTransformCapabilities:
        count, _, _ = unpack_from(_RDMA_TRANSFORM, data, 0, "RDMA_TRANSFORM_CAPABILITIES")
        return cls(_numbers(data, _RDMA_TRANSFORM.size, count, "RDMATransformIds"))

    def pack(self) -> bytes:
        numbers = self.rdma_transform_ids
        return _RDMA_TRANSFORM.pack(len(numbers), 0, 0) + _pack_numbers(numbers)


@dataclass(frozen=True, slots=True)
class SigningCapabilities:
    """SMB2_SIGNING_CAPABILITIES ([MS-SMB2] 2.2.3.1.7)."""

    signing_algorithms: tuple[int, ...]
    context_type: ClassVar[int] = ContextType.SIGNING_CAPABILITIES

    @classmethod
    def parse(cls, data: Buffer) -> SigningCapabilities:
        (count,) = unpack_from(_COUNT, data, 0, "SIGNING_CAPABILITIES")
        return cls(_numbers(data, _COUNT.size, count, "SigningAlgorithms"))

    def pack(self) -> bytes:
        return _COUNT.pack(len(self.signing_algorithms)) + _pack_numbers(self.signing_algorithms)


@dataclass(frozen=True, slots=True)
class OpaqueContext:
    """A context of a type that this module does not know."""

    context_type: int
    data: bytes

    def pack(self) -> bytes:
        return self.data


NegotiateContext = (
    PreauthIntegrityCapabilities
    | EncryptionCapabilities
    | CompressionCapabilities
    | NetnameNegotiateContext
    | TransportCapabilities
    | RdmaTransformCapabilities
    | SigningCapabilities
    | OpaqueContext
)

_PARSERS: dict[int, Callable[[Buffer], NegotiateContext]] = {
    ContextType.PREAUTH_INTEGRITY_CAPABILITIES: PreauthIntegrityCapabilities.parse,
    ContextType.ENCRYPTION_CAPABILITIES: EncryptionCapabilities.parse,
    ContextType.COMPRESSION_CAPABILITIES: CompressionCapabilities.parse,
    ContextType.NETNAME_NEGOTIATE_CONTEXT_ID: NetnameNegotiateContext.parse,
    ContextType.TRANSPORT_CAPABILITIES: TransportCapabilities.parse,
    ContextType.RDMA_TRANSFORM_CAPABILITIES: RdmaTransformCapabilities.parse,
    ContextType.SIGNING_CAPABILITIES: SigningCapabilities.parse,
}


def parse_contexts(
    message: Buffer, offset: int, count: int, least: int
) -> tuple[NegotiateContext, ...]:
    """The list of contexts at an offset of a message; each begins at a multiple of 8."""
    if count > MAX_CONTEXTS:
        raise Malformed(f"{count} negotiate contexts, at most {MAX_CONTEXTS} are read")
    if count and (offset % 8 or offset < least):
        raise Malformed(
            f"NegotiateContextOffset {offset}: must be a multiple of 8, {least} or more"
        )
    contexts: list[NegotiateContext] = []
    for _ in range(count):
        offset += -offset % 8
        context_type, length, _ = unpack_from(_CONTEXT, message, offset, "negotiate context")
        offset += _CONTEXT.size
        data = slice_at(message, offset, length, 0, "negotiate context's data")
        parse = _PARSERS.get(context_type)
        contexts.append(parse(data) if parse else OpaqueContext(context_type, bytes(data)))
        offset += length
    return tuple(contexts)


def pack_contexts(contexts: Iterable[NegotiateContext]) -> bytes:
    """The list of contexts, aligned to 8 among themselves; the last one is not padded."""
    packed = b""
    for context in contexts:
        data = context.pack()
        packed += padding(len(packed)) + _CONTEXT.pack(context.context_type, len(data), 0) + data
    return packed
