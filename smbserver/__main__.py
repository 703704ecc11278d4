"""`python -m smbserver`."""

from __future__ import annotations

from smbserver.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
