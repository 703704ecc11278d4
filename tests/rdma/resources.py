"""What the kernel counts: RDMA resources of all processes, as `rdma resource` shows them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence

KINDS = ("pd", "cq", "qp", "cm_id", "mr")


def resources(kinds: Sequence[str] = KINDS) -> dict[str, int] | None:
    """Over all devices; None where it cannot be asked."""
    if shutil.which("rdma") is None:
        return None
    asked = subprocess.run(
        ["rdma", "-j", "resource"], check=False, capture_output=True, text=True, timeout=20
    )
    if asked.returncode != 0 or not asked.stdout.strip():
        return None
    counted = dict.fromkeys(kinds, 0)
    for device in json.loads(asked.stdout):
        for kind in kinds:
            counted[kind] += device.get(kind, 0)
    return counted
