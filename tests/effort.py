"""How hard tests with invented input try: for a moment, or FUZZ_SECONDS for each target (`make fuzz`)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))
"""0: every target is only seen to work."""
EXAMPLES = 100
"""Of a property test that says nothing else; most take less than a second for them."""


def examples(moment: int) -> int:
    """How many to try, where `moment` of them are enough to see that the test works."""
    return moment * max(FUZZ_SECONDS, 1)


def tries(moment: int) -> settings:
    """For a test whose examples are dear, or may share a fixture."""
    return settings(
        max_examples=examples(moment),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
