"""Which of smbtorture's suites are run, on which share, with which options.

Left out: `scan` (gives no verdict), `kernel-oplocks` (wants the kernel's oplocks and the share as a local folder),
`hold-oplock` and `hold-sharemode` (wait for a person), `aio_delay` and `durable-v2-delay` (want a module of Samba's own
test suite), `twrp` (wants snapshots), `bench`.

What smbd 4.17 passes and this server does not, on purpose: `read.bug14607`, `ioctl.bug14607` and `ioctl.bug14769` send
controls of Samba's own that change how it answers; four tests of `timestamps` want the time of a write to change two
seconds late, and once, which Samba has given up since; `notify-inotify` renames an entry of a folder that is open for
deletion, which Windows refuses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from tests.conformance.network import BLOCKING_OPTIONS

USER, ADMINISTRATOR = "user", "administrator"
TEST_LIMIT = 60.0
"""Seconds until a test counts as hanging; the slowest of smbd's but two takes 40."""


@dataclass(frozen=True, slots=True)
class Suite:
    """What one run of smbtorture is given."""

    name: str
    share: str = "data"
    tests: tuple[str, ...] = ()
    """Run by name after the rest, on this suite's share; empty: the whole suite."""
    account: str = USER
    options: tuple[str, ...] = ()
    limit: float = TEST_LIMIT
    """Seconds for each test."""
    server_options: tuple[str, ...] = ()
    """Of a server of this suite's own, in the words of [global]."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """What stands on smbtorture's command line."""
        return tuple(f"{self.name}.{test}" for test in self.tests) or (self.name,)


_WHOLE = [
    "acls",
    "acls_non_canonical",
    "async_dosmode",
    "change_notify_disabled",
    "charset",
    "check-sharemode",
    "compound",
    "compound_async",
    "compound_find",
    "connect",
    "create",
    "create_no_streams",
    "credits",
    "delete-on-close-perms",
    "deny",
    "dir",
    "dosmode",
    "durable-open",
    "durable-open-disconnect",
    "durable-v2-open",
    "ea",
    "fileid",
    "getinfo",
    "ioctl",
    "ioctl-on-stream",
    "lease",
    "lock",
    "mangle",
    "maxfid",
    "maximum_allowed",
    "mkdir",
    "notify",
    "notify-inotify",
    "openattr",
    "oplock",
    "read",
    "rename",
    "replay",
    "rw",
    "samba3misc",
    "sdread",
    "secleak",
    "session",
    "session-id",
    "session-require-signing",
    "set-sparse-ioctl",
    "setinfo",
    "sharemode",
    "streams",
    "tcon",
    "timestamp_resolution",
    "timestamps",
    "winattr",
    "zero-data-ioctl",
]

_SHARES = {
    "acls_non_canonical": "noncanon",
    "change_notify_disabled": "nonotify",
    "create_no_streams": "nostreams",
    "dosmode": "dosmode",
    "ea": "acl_xattr_ea",
}
_OPTIONS = {
    # Not holes but Windows' reservations would fill the disk at the end of the longest file.
    "rw": ("torture:samba3=yes",),
    "ea": ("torture:acl_xattr_name=hackme",),
    "set-sparse-ioctl": ("torture:filename=sparse",),
    "zero-data-ioctl": (
        "torture:filename=zeroed",
        "torture:offset=0",
        "torture:beyond_final_zero=4096",
    ),
}
_SERVER_OPTIONS = {"session-require-signing": ("server signing = mandatory",)}
_LIMITS = {"maxfid": 300.0, "secleak": 120.0, "lease": 120.0, "notify": 120.0}

_APART = (
    Suite("smb2.session", tests=("reauth4",), account=ADMINISTRATOR),
    Suite("smb2.create", tests=("quota-fake-file",), account=ADMINISTRATOR),
    Suite("smb2.replay", "persistent", ("replay5",)),
    Suite(
        "smb2.durable-v2-open",
        "persistent",
        ("persistent-open-oplock", "persistent-open-lease"),
    ),
    Suite("smb2.getinfo", tests=("fsinfo", "qfs_buffercheck"), account=ADMINISTRATOR),
    Suite(
        "smb2.multichannel",
        tests=(
            *("generic.interface_info", "generic.num_channels"),
            *(
                f"oplocks.{test}"
                for test in ("test1", "test2", "test3_windows", "test3_specification")
            ),
            *("leases.test1", "leases.test2", "leases.test3"),
        ),
    ),
    # leases.test3 leaves a timer behind that writes to its stack after 5 s: to that of the next test in its process.
    Suite("smb2.multichannel", tests=("leases.test4", "bugs.bug_15346")),
)
"""Tests that want more rights than the others, another share, or a process of their own."""

SUITES: tuple[Suite, ...] = (
    *(
        Suite(
            f"smb2.{name}",
            share=_SHARES.get(name, "data"),
            options=_OPTIONS.get(name, ()),
            limit=_LIMITS.get(name, TEST_LIMIT),
            server_options=_SERVER_OPTIONS.get(name, ()),
        )
        for name in _WHOLE
    ),
    *_APART,
)


def chosen(names: list[str], *, may_block: bool = False) -> list[Suite]:
    """The suites of these names, all without names; a name may lead further, to one test.

    `may_block`: tests may block ports.
    """
    found = _chosen(names)
    if not may_block:
        return found
    return [dataclasses.replace(one, options=one.options + BLOCKING_OPTIONS) for one in found]


def _chosen(names: list[str]) -> list[Suite]:
    if not names:
        return list(SUITES)
    found = [suite for suite in SUITES if suite.name in names]
    known = {suite.name for suite in SUITES}
    return found + [_of_test(name) for name in names if name not in known]


def _of_test(name: str) -> Suite:
    for suite in reversed(SUITES):
        if any(name == wanted for wanted in suite.wanted):
            return suite
    for suite in SUITES:
        if name.startswith(f"{suite.name}."):
            test = name.removeprefix(f"{suite.name}.")
            return dataclasses.replace(suite, tests=(test,))
    raise LookupError(f"{name} is no suite that is run here; tests/conformance/suites.py has them")


def by_server(suites: Iterable[Suite]) -> dict[tuple[str, ...], list[Suite]]:
    """The suites that one server serves after another, by that server's options."""
    found: dict[tuple[str, ...], list[Suite]] = {}
    for suite in suites:
        found.setdefault(suite.server_options, []).append(suite)
    return found
