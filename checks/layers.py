"""Holds imports and includes against the layers, and looks for circles.

Python: smbdirect imports nothing of ours; rdmaproxy may import smbdirect and its own engine;
smbserver may import smbdirect. Modules form no circle, also not by imports inside functions;
imports under `if TYPE_CHECKING` do not count.

C: a file includes only what stands below it in RANKS, headers form no circle, and only the verbs
fabric sees libibverbs.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from sources import PACKAGES, ROOT, files, shown

MAY_IMPORT = {
    "smbdirect": set[str](),
    "rdmaproxy": {"smbdirect"},
    "smbserver": {"smbdirect"},
}

# The first pattern that matches a file's name gives its rank. A layer's interface may stand below what
# implements it: smbd_connection.h holds the types of SMB Direct, smbd_connection.c drives its parts.
RANKS = (
    (r"path|crc32c|bigendian|littleendian", 0),
    (r"trace", 1),
    (r"loop", 2),
    (r"mpa|ddp|rdmap", 2),
    (r"fabric|verbs", 3),
    (r"fabric_\w+|iwarp\w*|verbs\w*", 4),
    (r"capture", 4),
    (r"smbd_wire|smbd_connection\.h", 5),
    (r"pool", 5),
    (r"smbd_(connection|negotiation|completions|posting|timers)\.c|smbd_state\.h", 7),
    (r"smbd_\w+", 6),
    (r"channel\w*", 8),
    (r"engine\w*", 9),
    # The worker's own path: of the engine it knows the frames, nothing else.
    (r"smb2_wire", 0),
    (r"smb2_(window|opens|signing|signing_none)", 1),
    (r"smb2_ranges", 2),
    (r"smb2_connection", 3),
    (r"smb2_(request|commands)", 9),
    (r"smb2_(read|write)", 10),
    (r"smb2_serve", 11),
)
VERBS_HEADERS = re.compile(r"^(infiniband|rdma)/")
VERBS_FILES = re.compile(r"^(fabric_)?verbs")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

Graph = dict[str, set[str]]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield from import_statements(other)
        else:
            yield from import_statements(child)


def imported(statement: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    """The full names that a statement imports; a name may be a module or something inside one."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        parents = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*parents, base] if base else parents)
    yield from (f"{base}.{alias.name}" for alias in statement.names)


def python_graph() -> Graph:
    sources = {module_name(path): path for path in files(".py", folders=PACKAGES)}
    graph: Graph = {}
    for name, path in sources.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        targets = graph.setdefault(name, set())
        for statement in import_statements(tree):
            for full in imported(statement, package):
                module = full if full in sources else full.rpartition(".")[0]
                if full.split(".")[0] in PACKAGES and module != name:
                    targets.add(module)
    return graph


def wrong_imports(graph: Graph) -> Iterator[str]:
    for name, targets in sorted(graph.items()):
        own = name.split(".")[0]
        for target in sorted(targets):
            other = target.split(".")[0]
            if other != own and other not in MAY_IMPORT[own]:
                allowed = " and ".join(sorted(MAY_IMPORT[own])) or "nothing of ours"
                yield f"{name} imports {target}: {own} may import {allowed}"


def circles(graph: Graph) -> Iterator[list[str]]:
    """Strongly connected components of more than one node, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    yield from found


def rank(name: str) -> int | None:
    """Of a file by its name; a pattern without a suffix is for both, header and source."""
    stem = name.partition(".")[0]
    matches = (
        value
        for pattern, value in RANKS
        if re.fullmatch(pattern, stem) or re.fullmatch(pattern, name)
    )
    return next(matches, None)


def c_faults() -> Iterator[str]:
    headers: Graph = {}
    for path in files(".c", ".h", folders=("csrc",)):
        own = rank(path.name)
        if own is None:
            yield f"{shown(path)} has no rank in checks/layers.py"
            continue
        for kind, name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            if VERBS_HEADERS.match(name) and not VERBS_FILES.match(path.stem):
                yield f"{shown(path)} includes <{name}>: only the verbs fabric may"
            if kind == "<" or not (path.parent / name).exists():
                continue
            other = rank(Path(name).name)
            if other is not None and other > own:
                yield f"{shown(path)} includes {name}, which stands above it"
            if path.suffix == ".h" and name != path.name:
                headers.setdefault(path.name, set()).add(name)
    for circle in circles(headers):
        yield f"headers include each other: {', '.join(circle)}"


def main() -> int:
    graph = python_graph()
    faults = list(wrong_imports(graph))
    faults += [f"modules import each other: {', '.join(circle)}" for circle in circles(graph)]
    faults += c_faults()
    for fault in faults:
        print(f"layers: {fault}")
    if not faults:
        print(f"layers: {len(graph)} modules, every import downwards, no circle")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
