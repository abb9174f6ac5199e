"""Tests see what users see: no string names what is private in the product. Ruff's SLF finds the attributes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]

REACHES = {"getattr", "setattr", "delattr", "patch", "object"}
"""Functions that take the name of an attribute (``mock.patch.object`` is one)."""

PRIVATE = re.compile(r"(.*\.)?_[A-Za-z]\w*")

ALLOWED = {
    "_NANOSECONDS": "a pattern that must not see long texts",
    "_remove_from_indices": "kombu's",
}


def private_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            for one in node.args if name in REACHES else ():
                if isinstance(one, ast.Constant) and PRIVATE.fullmatch(str(one.value)):
                    yield str(one.value)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            yield from (one.name for one in node.names if PRIVATE.fullmatch(one.name))


def test_no_test_names_what_is_private() -> None:
    found = {f"{path.relative_to(TESTS)}: {name}" for path in TESTS.rglob("*.py") for name in private_names(path)}
    assert {one for one in found if one.rpartition(" ")[2] not in ALLOWED} == set()
    assert {one.rpartition(" ")[2] for one in found} == set(ALLOWED), "allowed, and needed no more"
