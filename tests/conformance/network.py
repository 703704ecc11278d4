"""A network of the run's own, so that a test may block ports with iptables and nobody else notices."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_IPTABLES = "/usr/sbin/iptables"


def enter_own_network() -> bool:
    """Whether this process, and all that it starts, have only a loopback of their own now: root may, with iptables."""
    if os.geteuid() != 0 or not shutil.which(_IPTABLES) or not shutil.which("ip"):
        return False
    if ctypes.CDLL(None).unshare(_CLONE_NEWNET) != 0:
        return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return True


BLOCKING_OPTIONS = (
    "torture:use_iptables=yes",
    f"torture:iptables_command={Path(__file__).parent / 'iptables'}",
)
"""How smbtorture makes a channel deaf; without them it asks the server to play dead, which only smbd can."""
