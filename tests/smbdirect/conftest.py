"""The C engine for tests that drive it, beside the reference: built once, when one of its sources is newer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from smbdirect.connection import Role
from smbdirect.pdu import DataTransfer, NegotiateRequest, NegotiateResponse
from tests.smbdirect import driven
from tests.smbdirect.driven import Both


@pytest.fixture(scope="session")
def engine() -> ModuleType:
    return driven.build()


@pytest.fixture
def make(engine: ModuleType) -> Iterator[Callable[..., Both]]:
    """Makes pairs of engines, established unless `negotiated` is false."""
    made = []

    def make(
        role: Role = Role.SERVER,
        *,
        negotiated: bool = True,
        request: NegotiateRequest = driven.REQUEST,
        response: NegotiateResponse = driven.RESPONSE,
        granted: int = 255,
        **options: Any,
    ) -> Both:
        both = Both(engine, role, **options)
        made.append(both)
        both.establish()
        if negotiated:
            both.arrive((request if role is Role.SERVER else response).pack())
            both.deliver()
            if role is Role.SERVER:
                both.arrive(DataTransfer(request.credits_requested, granted).pack())
                both.deliver()
            both.run()
        return both

    yield make
    for both in made:
        both.lose()
        both.deliver()
        both.destroy()
