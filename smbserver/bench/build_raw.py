"""Builds smbserver.bench._raw: the raw stream in C that everything is measured against."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef("""
int64_t raw_send(int fd, int64_t bytes);
int64_t raw_receive(int fd);
""")
ffibuilder.set_source(
    "smbserver.bench._raw",
    Path(__file__).with_name("raw_stream.c").read_text(encoding="utf-8"),
    extra_compile_args=["-O2", "-Wall", "-Wextra"],
)
