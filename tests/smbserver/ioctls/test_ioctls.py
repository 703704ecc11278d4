from __future__ import annotations

from pathlib import Path

import pytest

from smbdirect.channel_end import ChannelClosed
from smbserver import client
from smbserver.wire.interface_info import NetworkInterfaceInfo
from smbserver.wire.ioctl import (
    CtlCode,
    ValidateNegotiateInfoRequest,
    ValidateNegotiateInfoResponse,
)
from smbserver.wire.negotiate import Dialect
from smbserver.wire.status import NtStatus, StatusError
from tests.smbserver.in_process import in_loop, serving

INTERFACES = CtlCode.FSCTL_QUERY_NETWORK_INTERFACE_INFO
VALIDATE = CtlCode.FSCTL_VALIDATE_NEGOTIATE_INFO


async def refused(tree: client.Tree, code: int, data: bytes = b"", max_output: int = 65536) -> int:
    with pytest.raises(StatusError) as error:
        await tree.ioctl(code, data, max_output=max_output)
    return error.value.status


@in_loop
async def test_interfaces(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        running.service.rdma_addresses = ("127.0.0.1",)
        session = await running.session()
        tree = await session.tree("IPC$")
        found = NetworkInterfaceInfo.parse_all(await tree.ioctl(INTERFACES))
        kinds = [one.rdma_capable for one in found if str(one.address) == "127.0.0.1"]
        assert kinds == [False, True]
        assert await refused(tree, INTERFACES, b"x") == NtStatus.INVALID_PARAMETER
        assert await refused(tree, INTERFACES, max_output=10) == NtStatus.BUFFER_TOO_SMALL


@in_loop
async def test_interfaces_where_there_is_no_multichannel(tmp_path: Path) -> None:
    async with serving(tmp_path, "server multi channel support = no") as running:
        for dialects in ((Dialect.SMB_2_1,), (Dialect.SMB_3_1_1,)):
            session = await running.session(client.Options(dialects))
            tree = await session.tree("IPC$")
            assert await refused(tree, INTERFACES) == NtStatus.NOT_SUPPORTED


@pytest.mark.parametrize("dialect", [Dialect.SMB_2_0_2, Dialect.SMB_2_1, Dialect.SMB_3_0_2])
@in_loop
async def test_validate_negotiate(tmp_path: Path, dialect: Dialect) -> None:
    async with serving(tmp_path) as running:
        options = client.Options((dialect,))
        session = await running.session(options)
        tree = await session.tree("share")
        guid = options.client_guid if dialect > Dialect.SMB_2_0_2 else bytes(16)
        said = ValidateNegotiateInfoRequest(
            options.capabilities, guid, options.security_mode, options.dialects
        )
        answer = ValidateNegotiateInfoResponse.parse(await tree.ioctl(VALIDATE, said.pack()))
        agreed = session.channels[0].connection.negotiated
        assert answer == ValidateNegotiateInfoResponse(
            agreed.capabilities, agreed.server_guid, agreed.security_mode, dialect
        )


@pytest.mark.parametrize("changed", ["capabilities", "guid", "security_mode", "dialects"])
@in_loop
async def test_a_tampered_negotiation_ends_the_connection(tmp_path: Path, changed: str) -> None:
    async with serving(tmp_path) as running:
        options = client.Options((Dialect.SMB_3_0,))
        session = await running.session(options)
        tree = await session.tree("share")
        fields = {
            "capabilities": int(options.capabilities),
            "guid": options.client_guid,
            "security_mode": int(options.security_mode),
            "dialects": options.dialects,
        }
        fields[changed] = {
            "capabilities": 0,
            "guid": bytes(16),
            "security_mode": 0,
            "dialects": (Dialect.SMB_3_0, Dialect.SMB_3_1_1),
        }[changed]
        said = ValidateNegotiateInfoRequest(**fields)  # type: ignore[arg-type]
        with pytest.raises(ChannelClosed):
            await tree.ioctl(VALIDATE, said.pack())
        assert running.service.counters["negotiations_tampered"] == 1


@in_loop
async def test_refusals(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        session = await running.session()
        tree = await session.tree("share")
        referrals = CtlCode.FSCTL_DFS_GET_REFERRALS
        assert await refused(tree, referrals) == NtStatus.FS_DRIVER_REQUIRED
        assert await refused(tree, 0x00099999) == NtStatus.FILE_CLOSED
        assert await refused(tree, referrals, max_output=2 << 20) == NtStatus.INVALID_PARAMETER
        async with await tree.create("file") as file:
            for code, status in (
                (CtlCode.FSCTL_GET_REPARSE_POINT, NtStatus.NOT_A_REPARSE_POINT),
                (CtlCode.FSCTL_SET_REPARSE_POINT, NtStatus.NOT_A_REPARSE_POINT),
                (CtlCode.FSCTL_DELETE_REPARSE_POINT, NtStatus.NOT_A_REPARSE_POINT),
                (CtlCode.FSCTL_LMR_REQUEST_RESILIENCY, NtStatus.NOT_SUPPORTED),
                (0x00099999, NtStatus.INVALID_DEVICE_REQUEST),
            ):
                with pytest.raises(StatusError) as error:
                    await file.ioctl(code)
                assert error.value.status == status
