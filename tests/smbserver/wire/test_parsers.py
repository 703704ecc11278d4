"""Every parser of the codec, found by its name: whatever bytes come, it returns or says Malformed.

Nothing has to be registered here: a new message or structure is fed as soon as it exists.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbserver import wire
from smbserver.wire import negotiate_contexts
from smbserver.wire.errors import Malformed
from smbserver.wire.header import Header

Parser = Callable[[memoryview], Any]

FED_ELSEWHERE = {
    "directory_information.parse_entries",  # takes a class: test_structures.py
    "information.split_entries",  # a part of those that parse lists
}
STRUCTURE_SIZES = (2, 4, 8, 9, 12, 16, 17, 24, 25, 28, 33, 36, 41, 44, 48, 49, 57, 65, 89)
"""With which a body begins that gets beyond the first look."""


def parsers() -> Iterator[tuple[str, Parser]]:
    for _, place, _ in pkgutil.iter_modules(wire.__path__):
        module = importlib.import_module(f"{wire.__name__}.{place}")
        for name, found in vars(module).items():
            if getattr(found, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(found) and not found.__subclasses__():
                for method in ("parse", "parse_all"):
                    if hasattr(found, method):
                        yield f"{place}.{name}.{method}", getattr(found, method)
            elif inspect.isfunction(found) and name.startswith(("parse", "split")):
                yield f"{place}.{name}", found


PARSERS = {name: parser for name, parser in parsers() if name not in FED_ELSEWHERE}
PARSERS["negotiate_contexts.parse_contexts"] = partial(
    negotiate_contexts.parse_contexts, offset=0, count=2, least=0
)


def test_they_are_found() -> None:
    assert len(PARSERS) > 100
    for name in (
        *("header.Header.parse", "transform.TransformHeader.parse", "header.split_compound"),
        *("negotiate_contexts.parse_contexts", "create_contexts.parse_contexts"),
        *("negotiate.NegotiateRequest.parse", "smb1.MultiProtocolNegotiate.parse"),
    ):
        assert name in PARSERS


bodies = st.builds(
    lambda size, rest: Header().pack() + struct.pack("<H", size) + rest,
    st.sampled_from(STRUCTURE_SIZES),
    st.binary(max_size=200),
)


@pytest.mark.hypothesis
@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS.keys())
def test_any_bytes(parser: Parser) -> None:
    @given(st.binary(max_size=300) | bodies)
    def check(raw: bytes) -> None:
        try:
            parser(memoryview(raw))
        except Malformed:
            pass

    check()
