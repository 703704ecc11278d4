"""Builds `smbserver._smb2`, the worker's own path for READ and WRITE, as an extension module (cffi, API mode).

It is a module apart from the engine: no RDMA library may ever be mapped into a worker. Without the headers of libcrypto
it is built all the same, and signed requests are served by Python.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
ALSO = ("channel_frames.c",)
"""Of the engine, and without a socket or a library."""


SIGNING, NO_SIGNING = CSRC / "smb2_signing.c", CSRC / "smb2_signing_none.c"


def has_libcrypto() -> bool:
    """Whether programs can be built with libcrypto here."""
    command = [os.environ.get("CC", "cc"), "-E", "-include", "openssl/evp.h", "-xc", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def sources(signing: bool) -> list[str]:
    """The C files, relative to the root as setuptools wants them."""
    files = {*CSRC.glob("smb2_*.c"), *(CSRC / name for name in ALSO)}
    files.remove(NO_SIGNING if signing else SIGNING)
    return [str(file.relative_to(ROOT)) for file in sorted(files)]


signing = has_libcrypto()
ffibuilder = FFI()
ffibuilder.cdef((CSRC / "smb2.cdef").read_text())
ffibuilder.set_source(
    "smbserver._smb2",
    '#include "smb2_serve.h"',
    sources=sources(signing),
    libraries=["crypto"] if signing else [],
    include_dirs=[str(CSRC)],
    depends=[str(header.relative_to(ROOT)) for header in sorted(CSRC.glob("*.h"))],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=[
        "-std=c11",
        "-O2",
        "-Wall",
        "-Wextra",
        *os.environ.get("ENGINE_CFLAGS", "").split(),
    ],
    extra_link_args=os.environ.get("ENGINE_LDFLAGS", "").split(),
)
