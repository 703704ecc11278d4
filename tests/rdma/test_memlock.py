"""RLIMIT_MEMLOCK at 8 MiB: what cannot be registered is refused in words that name the limit, and the rest goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyverbs.cmid", reason="python3-pyverbs is missing", exc_type=ImportError)

from rdmaproxy import devices, doctor
from rdmaproxy.adapters import Adapter
from smbdirect.channel import Channel
from smbdirect.channel_end import TransferFailed
from smbdirect.control import Proxy
from smbdirect.frames import Access
from smbdirect.pool import Pool
from smbserver import own_server
from smbserver.own_server import RunningProxy
from tests.rdma.verbs_peer import VerbsPeer

LIMIT = 8 << 20
"""Bytes; what Linux gives a process that nobody cares for. One connection's buffers take four."""
WORDS = f"RLIMIT_MEMLOCK is {LIMIT} bytes"
REMEDY = "LimitMEMLOCK="

Tell = Callable[[Callable[[Proxy], object]], None]


@pytest.fixture
def proxy(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]
) -> Iterator[RunningProxy]:
    """One that may lock little: also root heeds the limit without CAP_IPC_LOCK."""
    under = (program("prlimit"), f"--memlock={LIMIT}")
    if os.getuid() == 0:
        under += (program("setpriv"), "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock")
    folder = tmp_path_factory.mktemp("proxy")
    with own_server.running_proxy(folder, under=under) as running:
        yield running


def test_clear_refusals(
    tell: Tell, adapter: tuple[devices.Address, Adapter], proxy: RunningProxy
) -> None:
    address = adapter[0].address

    async def story(control: Proxy) -> None:
        listener = await control.listen(address, 0, "verbs")
        peer = await VerbsPeer.connect(address, listener.port)
        server = Channel(*await listener.accept())
        large, small = Pool(2 * LIMIT), Pool(1 << 20)
        with pytest.raises(TransferFailed) as refused:
            await server.attach(large)
        assert WORDS in refused.value.words
        assert REMEDY in refused.value.words

        # Who has what it needs goes on.
        await server.attach(small)
        memory = bytearray(4096)
        shown = await peer.expose(memoryview(memory), Access.READ | Access.WRITE)
        piece = small.allocate(4096)
        piece.view[:] = sent = os.urandom(4096)
        assert await server.rdma_write(piece, 4096, shown.pack()) == 4096
        assert bytes(memory) == sent

        # There is no room for a second connection's buffers.
        other = await VerbsPeer.connect(address, listener.port)
        assert other.closed is not None
        other.close()
        assert WORDS in Path(proxy.control).with_name("log").read_text()
        checks = await doctor.examine(proxy.control, "")
        (memlock,) = (check for check in checks if check.name == "memlock")
        assert memlock.verdict is doctor.Verdict.FAIL
        assert REMEDY in memlock.remedy

        server.close()
        await server.wait_closed()
        await peer.until(lambda: peer.closed is not None)
        peer.close()
        for pool in (large, small):
            pool.close()
        await listener.close()

    tell(story)
