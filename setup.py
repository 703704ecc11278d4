"""The C extensions, through cffi's API mode; everything else stands in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=[
        "csrc/build_engine.py:ffibuilder",
        "csrc/build_smb2.py:ffibuilder",
        "smbserver/bench/build_raw.py:ffibuilder",
    ]
)
