"""What tests of several folders share: a server, a proxy, and skipping with a reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from smbserver import own_server
from smbserver.own_server import OwnServer, RunningProxy
from tests.effort import EXAMPLES, examples

# No deadlines: the machine may be busy, and time is not what property tests are about.
settings.register_profile(
    "effort",
    max_examples=examples(EXAMPLES),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("effort")

# Where Kerberos is installed, libraries ask the network for a realm's servers; the tests' own KDC names itself.
os.environ["KRB5_CONFIG"] = str(Path(__file__).with_name("data") / "krb5.conf")

PROGRAM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
"""Where servers live, which an ordinary user's PATH may not name."""


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """The path of a foreign program; the test is skipped, with its name, where it is missing."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *PROGRAM_FOLDERS))

    def find(name: str) -> str:
        found = shutil.which(name, path=path)
        if found is None:
            pytest.skip(f"{name} is not installed")
        return found

    return find


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """A running rdmaproxy of this module's own."""
    with own_server.running_proxy(tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A running smbserver of this module's own, on free ports of 127.0.0.1, with one empty share."""
    folder = tmp_path_factory.mktemp("server")
    shared = folder / "share"
    shared.mkdir()
    made = OwnServer(
        folder=Path(folder),
        path=shared,
        port=own_server.free_port(),
        rdma_port=own_server.free_port(),
    )
    with own_server.running(made):
        yield made
