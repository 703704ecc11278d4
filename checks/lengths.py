"""Functions and files that have grown past comfort.

A function of more than MAX_PYTHON or MAX_C lines, or a file of more than MAX_FILE, is a fault
unless ALLOWED gives a reason (a flat table is fine, a story that needs chapters is not).
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from sources import files, shown

MAX_PYTHON = 60
MAX_C = 80
MAX_FILE = 800
LONGEST_SHOWN = 3

# "path" or "path:function" -> why it may be longer
ALLOWED: dict[str, str] = {}

FUNCTION_NAME = re.compile(r"^[A-Za-z_].*?\b(\w+)\s*\(")


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def c_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Bodies are found by their braces, which stand alone in the first column."""
    name, start, opened = "", 0, False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        if line.startswith("{"):
            opened = True
        elif line.startswith("}"):
            if opened and name:
                yield name, number - start + 1
            name, opened = "", False
        elif not opened and (match := FUNCTION_NAME.match(line)):
            name, start = match[1], number


def main() -> int:
    functions: dict[str, list[tuple[int, str]]] = {"Python": [], "C": []}
    long_files = []
    for path in files(".py", ".c", ".h"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE and shown(path) not in ALLOWED:
            long_files.append(f"{shown(path)} has {lines} lines, {MAX_FILE} is the limit")
        language, found = (
            ("Python", python_functions) if path.suffix == ".py" else ("C", c_functions)
        )
        functions[language] += [(length, f"{shown(path)}:{name}") for name, length in found(path)]

    faults = long_files
    for language, limit in (("Python", MAX_PYTHON), ("C", MAX_C)):
        ordered = sorted(functions[language], reverse=True)
        faults += [
            f"{where} has {length} lines, {limit} is the limit"
            for length, where in ordered
            if length > limit and where not in ALLOWED
        ]
        if ordered:
            median = statistics.median(length for length, _ in ordered)
            longest = ", ".join(f"{where} {length}" for length, where in ordered[:LONGEST_SHOWN])
            print(f"lengths: {len(ordered)} {language} functions, median {median:.0f}: {longest}")
    for fault in faults:
        print(f"lengths: {fault}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
