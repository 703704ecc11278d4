"""Which client addresses may come: `hosts allow` and `hosts deny`.

Members are addresses, networks (`10.0.0.0/8`, `10.0.0.0/255.0.0.0`), beginnings of IPv4 addresses (`10.0.`), `ALL`
and `localhost`; what follows `EXCEPT` is taken out again. Names of hosts are not looked up: they match nothing.
Who is allowed comes in, whatever else is said; who is denied does not; who is in neither list does unless only the
allowed are listed. This host itself is refused only where it is denied.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network


def permits(allow: Sequence[str], deny: Sequence[str], client: str) -> bool:
    """Whether a client at this address may connect."""
    address = _plain(ip_address(client.partition("%")[0]))
    if _listed(allow, address):
        return True
    if deny or address.is_loopback:
        return not _listed(deny, address)
    return not allow


def is_understood(member: str) -> bool:
    """False for a name, which matches nobody here."""
    if member.upper() in ("ALL", "EXCEPT", "LOCALHOST") or member.endswith("."):
        return True
    try:
        ip_network(member, strict=False)
    except ValueError:
        return False
    return True


def _listed(members: Sequence[str], address: IPv4Address | IPv6Address) -> bool:
    words = [one.upper() for one in members]
    if "EXCEPT" in words:
        border = words.index("EXCEPT")
        return _listed(members[:border], address) and not _listed(members[border + 1 :], address)
    return any(_matches(member, address) for member in members)


def _matches(member: str, address: IPv4Address | IPv6Address) -> bool:
    if member.upper() == "ALL":
        return True
    if member.lower() == "localhost":
        return address.is_loopback
    if member.endswith("."):
        return str(address).startswith(member)
    try:
        return address in ip_network(member, strict=False)
    except ValueError:
        return False


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 client that has come to an IPv6 socket."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
