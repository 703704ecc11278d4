"""What cffi makes of csrc/smb2.cdef; `smbserver.credits`, `quick_open` and `quick_reads` are its typed faces."""

from typing import Any

ffi: Any
lib: Any
