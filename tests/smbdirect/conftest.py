"""The C engine for tests that drive it: built once, when one of its sources is newer."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.smbdirect import driven


@pytest.fixture(scope="session")
def engine() -> ModuleType:
    return driven.build()
