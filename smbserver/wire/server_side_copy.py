"""Server-side copy: resume keys and chunks ([MS-SMB2] 2.2.31.1, 2.2.32.1, 2.2.32.3)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from smbserver.wire.bounds import Buffer, Malformed
from smbserver.wire.file_id import FileId

_KEY = Struct("<QQQ")
_RESUME_KEY_RESPONSE = Struct("<24sII")
_COPY = Struct("<24sII")
_CHUNK = Struct("<QQII")
_RESPONSE = Struct("<III")


def resume_key(file_id: FileId) -> bytes:
    """A key that leads to the open: opaque for clients."""
    return _KEY.pack(*file_id, 0)


def file_id_of(key: bytes) -> FileId:
    """The open that `resume_key` made the key of."""
    persistent, volatile, _ = _KEY.unpack(key)
    return FileId(persistent, volatile)


@dataclass(frozen=True, slots=True)
class SrvRequestResumeKeyResponse:
    """SRV_REQUEST_RESUME_KEY Response ([MS-SMB2] 2.2.32.3), without a context."""

    resume_key: bytes

    def pack(self) -> bytes:
        return _RESUME_KEY_RESPONSE.pack(self.resume_key, 0, 0)


@dataclass(frozen=True, slots=True)
class SrvCopychunk:
    """SRV_COPYCHUNK ([MS-SMB2] 2.2.31.1.1)."""

    source_offset: int
    target_offset: int
    length: int

    def pack(self) -> bytes:
        return _CHUNK.pack(self.source_offset, self.target_offset, self.length, 0)


@dataclass(frozen=True, slots=True)
class SrvCopychunkCopy:
    """SRV_COPYCHUNK_COPY ([MS-SMB2] 2.2.31.1)."""

    source_key: bytes
    chunks: tuple[SrvCopychunk, ...]

    @classmethod
    def parse(cls, data: Buffer) -> SrvCopychunkCopy:
        if len(data) < _COPY.size:
            raise Malformed(f"SRV_COPYCHUNK_COPY of {len(data)} bytes")
        key, count, _ = _COPY.unpack_from(data)
        end = _COPY.size + count * _CHUNK.size
        if len(data) < end:
            raise Malformed(f"SRV_COPYCHUNK_COPY of {len(data)} bytes for {count} chunks")
        chunks = _CHUNK.iter_unpack(data[_COPY.size : end])
        return cls(key, tuple(SrvCopychunk(*chunk[:3]) for chunk in chunks))

    def pack(self) -> bytes:
        fixed = _COPY.pack(self.source_key, len(self.chunks), 0)
        return fixed + b"".join(chunk.pack() for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class SrvCopychunkResponse:
    """SRV_COPYCHUNK_RESPONSE ([MS-SMB2] 2.2.32.1): what was written, or the server's limits."""

    chunks_written: int
    chunk_bytes_written: int
    total_bytes_written: int

    @classmethod
    def parse(cls, data: Buffer) -> SrvCopychunkResponse:
        if len(data) < _RESPONSE.size:
            raise Malformed(f"SRV_COPYCHUNK_RESPONSE of {len(data)} bytes")
        return cls(*_RESPONSE.unpack_from(data))

    def pack(self) -> bytes:
        return _RESPONSE.pack(
            self.chunks_written, self.chunk_bytes_written, self.total_bytes_written
        )
