"""What a client wants: offered dialects and algorithms, protection, RDMA."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

from smbserver.wire.negotiate import Capabilities, Dialect, SecurityMode
from smbserver.wire.negotiate_contexts import EncryptionCipher, SigningAlgorithm

DIALECTS = (
    Dialect.SMB_2_0_2,
    Dialect.SMB_2_1,
    Dialect.SMB_3_0,
    Dialect.SMB_3_0_2,
    Dialect.SMB_3_1_1,
)

CIPHERS = (
    EncryptionCipher.AES_128_GCM,
    EncryptionCipher.AES_128_CCM,
    EncryptionCipher.AES_256_GCM,
    EncryptionCipher.AES_256_CCM,
)

SIGNING_ALGORITHMS = (
    SigningAlgorithm.AES_GMAC,
    SigningAlgorithm.AES_CMAC,
    SigningAlgorithm.HMAC_SHA256,
)


@dataclass(frozen=True, slots=True)
class Options:
    """The same for all channels of a session: a server refuses to bind what differs."""

    dialects: tuple[int, ...] = DIALECTS
    sign: bool = False
    """Every message is signed. Otherwise only those that must be, unless the server asks for all."""
    encrypt: bool = False
    """Every message of the session is sealed. Otherwise only where session or share ask for it."""
    ciphers: tuple[int, ...] = CIPHERS
    """Offered in 3.1.1, the best first. 3.0 and 3.0.2 know AES-128-CCM only."""
    signing_algorithms: tuple[int, ...] = SIGNING_ALGORITHMS
    """Offered in 3.1.1, the best first; empty: the context is not sent and AES-CMAC is used."""
    multi_protocol: bool = False
    """Begin with the SMB1 NEGOTIATE that offers SMB 2.???"""
    spnego: bool = True
    """NTLM inside SPNEGO; otherwise raw NTLMSSP, as the Linux kernel's client sends it."""
    client_guid: bytes = field(default_factory=lambda: uuid4().bytes_le)
    """The client machine's name: channels of one session must share it."""
    rdma_threshold: int = 8192
    """Bytes from which READ and WRITE on an RDMA channel use buffer descriptors; fewer go inline."""
    descriptors_per_request: int = 1
    """Into how many descriptors the buffer of one READ or WRITE is split."""
    rdma_channel: int | None = None
    """`RdmaChannel` of such requests; None: with invalidation where dialect and adapter have it."""
    pool_size: int = 64 << 20
    """Bytes of memory for RDMA."""
    credits: int = 512
    """Credits that the client tries to hold on each channel."""

    @property
    def security_mode(self) -> SecurityMode:
        required = SecurityMode.SIGNING_REQUIRED if self.sign else SecurityMode(0)
        return SecurityMode.SIGNING_ENABLED | required

    @property
    def capabilities(self) -> Capabilities:
        """What SMB 2.0.2 does not know is not said to a server that may take it ill."""
        if max(self.dialects) < Dialect.SMB_3_0:
            return Capabilities.DFS | Capabilities.LARGE_MTU
        return (
            Capabilities.DFS
            | Capabilities.LEASING
            | Capabilities.LARGE_MTU
            | Capabilities.MULTI_CHANNEL
            | Capabilities.PERSISTENT_HANDLES
            | Capabilities.ENCRYPTION
        )
