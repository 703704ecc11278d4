"""No module is named after nothing in particular: a reader must know what is inside."""

from __future__ import annotations

import sys

from sources import files, shown

EMPTY_NAMES = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}


def main() -> int:
    faults = [
        f"{shown(path)}: '{word}' says nothing about what is inside"
        for path in files(".py", ".c", ".h")
        for word in sorted(set(path.stem.split("_")) & EMPTY_NAMES)
    ]
    for fault in faults:
        print(f"names: {fault}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
