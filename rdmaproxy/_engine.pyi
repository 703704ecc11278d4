"""What cffi makes of csrc/engine.cdef; `rdmaproxy.engine` is its typed face."""

from typing import Any

ffi: Any
lib: Any
