"""`python -m rdmaproxy`"""

from __future__ import annotations

import sys

from rdmaproxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
