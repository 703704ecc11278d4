"""The checks find what they are for."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "checks"))

import layers
import lengths


def test_circles_are_found_and_named() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set[str](), "e": {"f"}, "f": {"e"}}
    assert list(layers.circles(graph)) == [["a", "b", "c"], ["e", "f"]]


def test_a_tree_has_no_circle() -> None:
    assert list(layers.circles({"a": {"b", "c"}, "b": {"c"}, "c": set[str]()})) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import smbdirect.pdu", ["smbdirect.pdu"]),
        ("from smbdirect import pdu, pool", ["smbdirect.pdu", "smbdirect.pool"]),
        ("from . import header", ["smbserver.wire.header"]),
        ("from ..keys import derive", ["smbserver.keys.derive"]),
        ("def f():\n    import smbdirect.pool", ["smbdirect.pool"]),
        ("if TYPE_CHECKING:\n    import smbdirect.pool", []),
    ],
)
def test_imports_are_seen_wherever_they_stand(source: str, expected: list[str]) -> None:
    statements = layers.import_statements(ast.parse(source))
    found = [name for each in statements for name in layers.imported(each, "smbserver.wire")]
    assert found == expected


def test_an_import_against_the_layers_is_a_fault() -> None:
    graph = {
        "smbserver.worker": {"rdmaproxy.daemon", "smbdirect.pool"},
        "smbdirect.pool": set[str](),
    }
    (fault,) = layers.wrong_imports(graph)
    assert fault.startswith("smbserver.worker imports rdmaproxy.daemon")


@pytest.mark.parametrize(
    ("lower", "higher"),
    [("path", "loop"), ("loop", "fabric"), ("fabric", "smbd_wire"), ("smbd_wire", "smbd_rdma")],
)
def test_ranks_of_c_files(lower: str, higher: str) -> None:
    below, above = layers.rank(lower), layers.rank(higher)
    assert below is not None
    assert above is not None
    assert below < above


def test_an_unknown_c_file_has_no_rank() -> None:
    assert layers.rank("whatever") is None


def test_lengths_of_c_functions(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text("static int one(int a)\n{\n\treturn a;\n}\n\nstruct s {\n\tint x;\n};\n")
    assert list(lengths.c_functions(source)) == [("one", 4)]


def test_lengths_of_python_functions(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("class C:\n    def one(self):\n        return 1\n")
    assert list(lengths.python_functions(source)) == [("one", 2)]
