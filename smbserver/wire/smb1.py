"""The one SMB1 message an SMB2 server reads: NEGOTIATE ([MS-SMB2] 3.3.5.3, [MS-CIFS] 2.2.4.52)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from smbserver.wire.bounds import Buffer, Malformed, unpack_from

PROTOCOL_ID = b"\xffSMB"

SMB2_002 = "SMB 2.002"
"""Answered with dialect 2.0.2."""

SMB2_WILDCARD = "SMB 2.???"
"""Answered with dialect 0x02FF; the client then sends an SMB2 NEGOTIATE."""

_COMMAND_NEGOTIATE = 0x72
_BUFFER_FORMAT_DIALECT = 0x02
_FLAGS2_UNICODE_NT_STATUS_EXTENDED_SECURITY = 0xC801
_HEADER = Struct("<4sBIBH12xHHHH")
_COUNTS = Struct("<BH")


@dataclass(frozen=True, slots=True)
class MultiProtocolNegotiate:
    """SMB_COM_NEGOTIATE request as a whole message, its SMB1 header included."""

    dialects: tuple[str, ...]

    @classmethod
    def parse(cls, message: Buffer) -> MultiProtocolNegotiate:
        protocol, command, *_ = unpack_from(_HEADER, message, 0, "SMB1 header")
        if protocol != PROTOCOL_ID or command != _COMMAND_NEGOTIATE:
            raise Malformed(f"an SMB1 message other than NEGOTIATE: command 0x{command:02X}")
        words, length = unpack_from(_COUNTS, message, _HEADER.size, "SMB1 NEGOTIATE")
        start = _HEADER.size + _COUNTS.size
        if words or length > len(message) - start:
            raise Malformed(f"SMB1 NEGOTIATE with {words} words and {length} bytes")
        return cls(_parse_dialects(bytes(message[start : start + length])))

    def pack(self) -> bytes:
        dialects = b"".join(b"\x02" + dialect.encode("ascii") + b"\0" for dialect in self.dialects)
        flags2 = _FLAGS2_UNICODE_NT_STATUS_EXTENDED_SECURITY
        header = _HEADER.pack(PROTOCOL_ID, _COMMAND_NEGOTIATE, 0, 0x18, flags2, 0, 0, 0, 0)
        return header + _COUNTS.pack(0, len(dialects)) + dialects


def _parse_dialects(raw: bytes) -> tuple[str, ...]:
    dialects = []
    for part in raw.split(b"\0")[:-1]:
        if not part or part[0] != _BUFFER_FORMAT_DIALECT or not part.isascii():
            raise Malformed(f"SMB1 NEGOTIATE with {part!r} where a dialect should be")
        dialects.append(part[1:].decode("ascii"))
    if not raw.endswith(b"\0"):
        raise Malformed("SMB1 NEGOTIATE whose dialects do not end in a zero byte")
    return tuple(dialects)
