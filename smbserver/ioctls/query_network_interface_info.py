"""FSCTL_QUERY_NETWORK_INTERFACE_INFO: where further channels can go ([MS-SMB2] 3.3.5.15.11)."""

from __future__ import annotations

from ipaddress import ip_address

from smbserver import interfaces
from smbserver.dispatch import Call
from smbserver.wire.interface_info import InterfaceCapability, NetworkInterfaceInfo
from smbserver.wire.ioctl import IoctlRequest
from smbserver.wire.negotiate import Dialect
from smbserver.wire.status import NtStatus, StatusError


def serve(call: Call, request: IoctlRequest) -> bytes:
    """List the interfaces as they are now."""
    connection = call.connection
    if connection.dialect is None or connection.dialect < Dialect.SMB_3_0:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    service = connection.service
    if not service.config.general.server_multi_channel_support:
        raise StatusError(NtStatus.NOT_SUPPORTED)
    if len(request.input):
        raise StatusError(NtStatus.INVALID_PARAMETER)
    # A client elsewhere must not look for us on its own loopback interface.
    here = ip_address(connection.channel.facts.local[0].partition("%")[0]).is_loopback
    known = [one for one in interfaces.addresses() if here or not one.address.is_loopback]
    offered = interfaces.offered(known, service.config.general.interfaces, service.rdma_addresses)
    if call.session is not None:
        rdma = [one for one in offered if one.capability & InterfaceCapability.RDMA_CAPABLE]
        call.session.rdma_offered = tuple(str(one.address) for one in rdma)
    return NetworkInterfaceInfo.pack_all(offered)
