"""Builds `rdmaproxy._engine`, the C engine as an extension module (cffi, API mode).

setup.py names it in `cffi_modules`; `python setup.py build_ext --inplace` builds it.
"""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
LEFT_OUT = ("fabric_memory", "smb2_")
"""For tests, and for the worker's own module. What needs rdma-core's headers compiles to nothing where they are
missing, and opens the libraries when it is used, so that the extension links to none of them."""


def sources() -> list[str]:
    """The engine's C files, relative to the root as setuptools wants them."""
    files = (file for file in sorted(CSRC.glob("*.c")) if not file.name.startswith(LEFT_OUT))
    return [str(file.relative_to(ROOT)) for file in files]


ffibuilder = FFI()
ffibuilder.cdef((CSRC / "engine.cdef").read_text())
ffibuilder.set_source(
    "rdmaproxy._engine",
    '#include "engine.h"',
    sources=sources(),
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
    libraries=["dl"],
    extra_link_args=["-pthread", *os.environ.get("ENGINE_LDFLAGS", "").split()],
)
