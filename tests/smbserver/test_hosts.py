from __future__ import annotations

import pytest

from smbserver.hosts import is_understood, permits

INSIDE, OUTSIDE = "10.1.2.3", "192.0.2.9"


@pytest.mark.parametrize(
    ("allow", "deny", "inside", "outside"),
    [
        ((), (), True, True),
        (("10.0.0.0/8",), (), True, False),
        (("10.0.0.0/255.0.0.0",), (), True, False),
        (("10.1.",), (), True, False),
        (("10.1.2.3",), (), True, False),
        ((), ("192.0.2.0/24",), True, False),
        ((), ("ALL",), False, False),
        (("10.",), ("ALL",), True, False),
        (("10.1.2.3",), ("10.0.0.0/8",), True, True),
        (("ALL", "EXCEPT", "192.0.2.9"), (), True, False),
        (("10.0.0.0/8", "except", "10.1.2.3"), (), False, False),
        (("some.host",), (), False, False),
    ],
)
def test_lists(allow: tuple[str, ...], deny: tuple[str, ...], inside: bool, outside: bool) -> None:
    assert permits(allow, deny, INSIDE) is inside
    assert permits(allow, deny, OUTSIDE) is outside
    assert permits(allow, deny, f"::ffff:{OUTSIDE}") is outside


def test_this_host_is_refused_only_where_it_is_denied() -> None:
    assert permits(("10.",), (), "127.0.0.1")
    assert permits(("10.",), (), "::1")
    assert not permits((), ("127.0.0.1",), "127.0.0.1")
    assert not permits(("10.",), ("ALL",), "127.0.0.1")
    assert permits(("localhost",), ("ALL",), "127.0.0.1")


def test_other_families() -> None:
    assert permits(("2001:db8::/32",), (), "2001:db8::1")
    assert not permits(("2001:db8::/32",), (), INSIDE)
    assert permits((), ("2001:db8::/32",), "fe80::1%eth0")


def test_names_of_hosts_are_not_understood() -> None:
    assert is_understood("10.0.0.0/8")
    assert is_understood("ALL")
    assert not is_understood("some.host")
