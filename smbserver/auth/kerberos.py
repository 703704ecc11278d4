"""Kerberos: tickets for our service, accepted with the keys of a keytab ([MS-KILE], RFC 4121).

MIT's library does it, reached by pyspnego through python-gssapi and python-krb5: the extra `kerberos` of this package.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
import os
import pwd
from typing import TYPE_CHECKING, Any

from spnego._context import GSSMech

from smbserver.user import User
from smbserver.wire.status import NtStatus, StatusError

if TYPE_CHECKING:
    from smbserver.auth.passdb import Passdb
    from smbserver.parameters import General

log = logging.getLogger(__name__)

OLD_OID = "1.2.840.48018.1.2.2"
"""What Windows has called Kerberos since a bit was lost in its first release ([MS-SPNG] 3.1.5.2)."""

OIDS = (OLD_OID, GSSMech.kerberos.value)


class Kerberos:
    """The service's keys, and whom a client's principal stands for."""

    def __init__(self, keytab: str, realm: str) -> None:
        self._keytab = keytab
        """Empty: the system's."""
        self._realm = realm.upper()

    def context(self) -> Any:
        """A fresh acceptor of pyspnego's. Raises if the keytab cannot be used."""
        from spnego._gss import GSSAPIProxy

        gssapi: Any = importlib.import_module("gssapi")
        mechanism = gssapi.OID.from_int_seq(GSSMech.kerberos.value)
        store = {"keytab": f"FILE:{self._keytab}"} if self._keytab else None
        credentials = gssapi.Credentials(usage="accept", mechs=[mechanism], store=store)
        return GSSAPIProxy(usage="accept", _gssapi_credential=credentials)

    def lifetime(self, context: Any) -> float:
        """Seconds that the ticket of a complete context has left, and the skew between clocks that is allowed for.

        What is left is what the acceptance of the same ticket goes by: it is never taken and expired at once.
        """
        seconds = context._context.lifetime
        return math.inf if seconds is None else float(seconds)

    def user(self, principal: str, passdb: Passdb) -> User:
        """The account of that name, or else the Unix user."""
        name, _, realm = principal.partition("@")
        if self._realm and realm.upper() != self._realm:
            words = f"{principal} is not of the realm {self._realm}"
            raise StatusError(NtStatus.LOGON_FAILURE, words=words)
        account = passdb.find(name)
        if account is not None:
            if account.disabled:
                raise StatusError(NtStatus.ACCOUNT_DISABLED)
            return User(account.name, account.uid)
        if os.geteuid() != 0:
            return User(name, os.geteuid())
        try:
            return User(name, pwd.getpwnam(name).pw_uid)
        except KeyError:
            words = f"{principal} has no account and is no Unix user"
            raise StatusError(NtStatus.LOGON_FAILURE, words=words) from None


def kerberos(general: General) -> Kerberos | None:
    """As the configuration has it; None where it has none, or where the libraries are missing."""
    method = general.kerberos_method
    if not general.dedicated_keytab_file and method not in ("system_keytab", "secrets_and_keytab"):
        return None
    if not _is_available():
        return None
    return Kerberos(general.dedicated_keytab_file, general.realm)


@functools.cache
def _is_available() -> bool:
    from spnego._gss import GSSAPI_IMP_ERR, HAS_GSSAPI

    if not HAS_GSSAPI:
        log.warning(
            "Kerberos is configured and cannot be had: %s; install rdmaproxy[kerberos]",
            GSSAPI_IMP_ERR,
        )
    return bool(HAS_GSSAPI)
