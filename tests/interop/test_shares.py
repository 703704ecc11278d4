"""Two users and smbclient: who may enter which share, who may write there, as whom, and what is seen."""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import os
import pwd
import secrets
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smbserver import client, own_server
from smbserver.auth.passdb import Passdb
from smbserver.own_server import OwnServer
from smbserver.wire.status import NtStatus, StatusError
from tests.smbserver.in_process import in_loop

pytestmark = pytest.mark.interop

PASSWORD = "pass-Word1"
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root's server acts as its users")

REFUSED = "NT_STATUS_ACCESS_DENIED"

SHARES = {
    "plain": ("read only = no",),
    "only": ("valid users = {alice}", "writable = yes"),
    "group": ("valid users = @{group}", "writable = yes"),
    "banned": ("invalid users = {bob}", "writable = yes"),
    "readable": ("read only = yes",),
    "readlist": ("read only = no", "read list = {bob}"),
    "writelist": ("read only = yes", "write list = {alice}"),
    "forced": ("force user = {alice}", "read only = no"),
    "grouped": ("force group = {group}", "read only = no"),
    "members": ("force group = +{group}", "read only = no"),
    "guests": ("guest ok = yes", "read only = no"),
    "masks": ("create mask = 0640", "directory mask = 0750", "read only = no"),
    "veto": ("veto files = /secret*/*.tmp/", "read only = no"),
    "dots": ("hide dot files = no", "read only = no"),
    "elsewhere": ("hosts deny = 127.0.0.0/8", "read only = no"),
    "few": ("max connections = 1", "read only = no"),
    "quiet": ("browseable = no", "read only = no"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Users:
    """Names of two accounts and, for root, of the Unix users and the group behind them."""

    alice: str
    bob: str
    group: str
    """Only alice is a member."""

    def uid(self, name: str) -> int:
        return pwd.getpwnam(name).pw_uid if ROOT else os.getuid()


@pytest.fixture(scope="module")
def users(program: Callable[[str], str]) -> Iterator[Users]:
    """Made for these tests and removed after them."""
    mark = secrets.token_hex(4)
    made = Users(f"alice{mark}", f"bob{mark}", f"group{mark}")
    if not ROOT:
        yield made
        return
    with contextlib.ExitStack() as stack:

        def run(name: str, *arguments: str) -> None:
            subprocess.run([program(name), *arguments], check=True, capture_output=True)

        run("groupadd", made.group)
        stack.callback(run, "groupdel", made.group)
        for name, groups in ((made.alice, ("-G", made.group)), (made.bob, ())):
            run("useradd", "-M", "-s", "/bin/false", *groups, name)
            stack.callback(run, "userdel", name)
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all shares show; everybody may reach it and write there."""
    path = tmp_path_factory.mktemp("folder")
    for parent in (path.parent, path.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o111)
    path.chmod(0o777)
    return path


@pytest.fixture(scope="module")
def serving(
    users: Users, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    words = dataclasses.asdict(users)
    lines = ["map to guest = bad user"]
    for name, settings in SHARES.items():
        lines += [f"[{name}]", f"path = {folder}", *(one.format(**words) for one in settings)]
    made = OwnServer(
        folder=tmp_path_factory.mktemp("server"),
        path=folder,
        port=own_server.free_port(),
        rdma_port=own_server.free_port(),
        options=tuple(lines),
    )
    made.prepare()
    for name in (users.alice, users.bob):
        Passdb(made.folder / "smbpasswd").set_password(name, PASSWORD, users.uid(name))
    with own_server.running(made):
        yield made


@pytest.fixture(autouse=True)
def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()


Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(program: Callable[[str], str], serving: OwnServer) -> Run:
    """What smbclient prints when it runs commands in a share as a user."""
    smbclient = program("smbclient")

    def commands(share: str, user: str, *commands: str) -> str:
        finished = subprocess.run(
            [
                smbclient,
                f"//127.0.0.1/{share}",
                *("-p", str(serving.port), "-U", f"{user}%{PASSWORD}", "-c", "; ".join(commands)),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return finished.stdout + finished.stderr

    return commands


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_text("content")
    return path


def owner(path: Path) -> int:
    return path.stat().st_uid


@pytest.mark.parametrize(
    ("share", "alice", "bob"),
    [
        ("plain", True, True),
        ("only", True, False),
        pytest.param("group", True, False, marks=needs_root),
        ("banned", True, False),
        ("elsewhere", False, False),
    ],
)
def test_who_may_enter(run: Run, users: Users, share: str, alice: bool, bob: bool) -> None:
    for name, may in ((users.alice, alice), (users.bob, bob)):
        printed = run(share, name, "ls")
        assert (REFUSED not in printed) is may, printed
        assert ("blocks of size" in printed) is may, printed


@pytest.mark.parametrize(
    ("share", "alice", "bob"),
    [
        ("plain", True, True),
        ("readable", False, False),
        ("readlist", True, False),
        ("writelist", True, False),
    ],
)
def test_who_may_write(
    run: Run, users: Users, folder: Path, content: Path, share: str, alice: bool, bob: bool
) -> None:
    (folder / "there").write_text("there")
    (folder / "there").chmod(0o666)
    for name, may in ((users.alice, alice), (users.bob, bob)):
        printed = run(share, name, f"put {content} {name}", f"get there {content}.back")
        assert (folder / name).exists() is may, printed
        assert (REFUSED in printed) is not may, printed
        assert Path(f"{content}.back").read_text() == "there"
        assert (REFUSED in run(share, name, "rename there moved")) is not may
        if may:
            (folder / "moved").rename(folder / "there")


@needs_root
def test_everybody_acts_as_oneself(run: Run, users: Users, folder: Path, content: Path) -> None:
    for name in (users.alice, users.bob):
        run("plain", name, f"put {content} {name}", f"mkdir {name}.folder")
        assert owner(folder / name) == owner(folder / f"{name}.folder") == users.uid(name)
        (folder / name).chmod(0o600)
    printed = run("plain", users.bob, f"get {users.alice} {content}.stolen")
    assert REFUSED in printed
    assert not Path(f"{content}.stolen").exists()
    folder.chmod(0o755)
    try:
        assert REFUSED in run("plain", users.alice, f"put {content} refused")
    finally:
        folder.chmod(0o777)


@needs_root
def test_force_user(run: Run, users: Users, folder: Path, content: Path) -> None:
    (folder / "hers").write_text("hers")
    (folder / "hers").chmod(0o600)
    os.chown(folder / "hers", users.uid(users.alice), -1)
    printed = run("forced", users.bob, f"put {content} made", f"get hers {content}.back")
    assert owner(folder / "made") == users.uid(users.alice), printed
    assert Path(f"{content}.back").read_text() == "hers"


@needs_root
def test_force_group(run: Run, users: Users, folder: Path, content: Path) -> None:
    """New files are the group's, and bob reads what only the group may; +: he is not a member and stays as he is."""
    theirs = folder / "theirs"
    theirs.write_text("theirs")
    theirs.chmod(0o640)
    os.chown(theirs, 0, grp.getgrnam(users.group).gr_gid)
    assert REFUSED in run("members", users.bob, f"get theirs {content}.back")
    printed = run("grouped", users.bob, f"put {content} made", f"get theirs {content}.back")
    assert Path(f"{content}.back").read_text() == "theirs", printed
    for user in (users.alice, users.bob):
        run("members", user, f"put {content} {user}")
    groups = {path.name: grp.getgrgid(path.stat().st_gid).gr_name for path in folder.iterdir()}
    assert groups == {
        "theirs": users.group,
        "made": users.group,
        users.alice: users.group,
        users.bob: users.bob,
    }
    assert owner(folder / "made") == users.uid(users.bob)


def test_guests(run: Run, users: Users, folder: Path, content: Path) -> None:
    printed = run("guests", "stranger", f"put {content} guest")
    assert (folder / "guest").exists(), printed
    if ROOT:
        assert owner(folder / "guest") == pwd.getpwnam("nobody").pw_uid
    assert REFUSED in run("plain", "stranger", "ls")
    assert "NT_STATUS_LOGON_FAILURE" in run("guests", f"{users.alice}%wrong", "ls")


def test_masks(run: Run, users: Users, folder: Path, content: Path) -> None:
    run("masks", users.alice, f"put {content} file", "mkdir sub")
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((folder / "sub").stat().st_mode) == 0o750
    run("plain", users.alice, f"put {content} plain", "mkdir plainsub")
    assert stat.S_IMODE((folder / "plain").stat().st_mode) == 0o644
    assert stat.S_IMODE((folder / "plainsub").stat().st_mode) == 0o755


def test_veto_files(run: Run, users: Users, folder: Path, content: Path) -> None:
    for name in ("secret.txt", "a.tmp", "seen"):
        (folder / name).write_text(name)
    printed = run("veto", users.alice, "ls")
    assert "seen" in printed
    assert "secret" not in printed
    assert "a.tmp" not in printed
    for name in ("secret.txt", "SECRET.TXT", "a.tmp"):
        printed = run("veto", users.alice, f"get {name} {content}.back")
        assert "NT_STATUS_OBJECT_NAME_NOT_FOUND" in printed
    run("veto", users.alice, f"put {content} secret.new")
    assert not (folder / "secret.new").exists()


def test_hide_dot_files(run: Run, users: Users, folder: Path) -> None:
    (folder / ".dot").write_text("dot")

    def attributes(share: str) -> str:
        (line,) = (
            line for line in run(share, users.alice, "ls").splitlines() if " .dot " in f"{line} "
        )
        return line.split()[1]

    assert "H" in attributes("plain")
    assert "H" not in attributes("dots")


def test_browseable(program: Callable[[str], str], serving: OwnServer, users: Users) -> None:
    listing = subprocess.run(
        [
            program("smbclient"),
            *("-L", "127.0.0.1", "-p", str(serving.port), "-U", f"{users.alice}%{PASSWORD}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "plain" in listing
    assert "quiet" not in listing


@in_loop
async def test_max_connections(serving: OwnServer, users: Users) -> None:
    """Of all clients together: these two have workers of their own."""

    async def connect(user: str) -> client.Session:
        return await client.connect("127.0.0.1", serving.port, user=user, password=PASSWORD)

    async with await connect(users.alice) as first, await connect(users.bob) as second:
        tree = await first.tree("few")
        with pytest.raises(StatusError) as refused:
            await second.tree("few")
        assert refused.value.status == NtStatus.REQUEST_NOT_ACCEPTED
        await tree.disconnect()
        await (await second.tree("few")).disconnect()
    async with await connect(users.bob) as third:
        await third.tree("few")
