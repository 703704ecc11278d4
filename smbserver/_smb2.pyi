"""What cffi makes of csrc/smb2.cdef; `smbserver.credits` and `smbserver.quick` are its typed faces."""

from typing import Any

ffi: Any
lib: Any
