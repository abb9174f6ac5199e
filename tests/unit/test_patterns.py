"""No pattern of either package takes longer than the text is long."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import jaas_submit
import jaas_worker

SEARCHES = {"search", "findall", "finditer", "sub", "subn", "split"}

LINEAR = {
    ("jaas_submit.batch_model.templates", "_PLACE"): "begins with a {, which its repetition cannot pass",
    ("jaas_submit.model.bounds", "_STRING"): "each match ends, at the text's end at the latest (see there)",
    ("jaas_worker.telemetry.logging_setup", "_PASSWORD"): "searches texts that end with the @ it looks for (see there)",
}
"""Patterns that are searched for, repeat without a bound, and take no longer than the text is long all the same."""


def modules() -> Iterator[ModuleType]:
    for package in (jaas_submit, jaas_worker):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # Not those that start something by being imported, or that belong to another program.
            if found.name not in {"jaas_submit.dashboard.flower_app"} and not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def patterns() -> Iterator[tuple[ModuleType, str, str, bool]]:
    """Yield each pattern: its module, its name, its text, and whether it is searched for (not only matched)."""
    for module in modules():
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        searched = {
            node.func.value.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.attr in SEARCHES
        }
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield module, name, value.pattern, name in searched
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
                if of_re and node.func.attr in SEARCHES | {"match", "fullmatch"}:
                    assert isinstance(node.args[0], ast.Constant), f"{module.__name__}:{node.lineno}: name the pattern"
                    yield module, f"line {node.lineno}", str(node.args[0].value), node.func.attr in SEARCHES


def endless(tree: Any) -> Iterator[tuple[bool, bool]]:
    """Yield each repetition without a bound: whether it is possessive, and whether the pattern ends with it."""
    parser: Any = importlib.import_module("re._parser")
    items = list(tree)
    for place, (op, value) in enumerate(items):
        last = place == len(items) - 1
        name = str(op)
        if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            _, most, part = value
            if most is parser.MAXREPEAT or int(most) > 4096:
                yield name == "POSSESSIVE_REPEAT", last
            for possessive, _ in endless(part):
                yield possessive, False
        elif name == "SUBPATTERN":
            for possessive, end in endless(value[3]):
                yield possessive, end and last
        elif name in {"ATOMIC_GROUP"}:
            yield from endless(value)
        elif name == "BRANCH":
            for branch in value[1]:
                for possessive, end in endless(branch):
                    yield possessive, end and last
        elif name in {"ASSERT", "ASSERT_NOT"}:
            for possessive, _ in endless(value[1]):
                yield possessive, False


def problem(text: str, *, searched: bool) -> str:
    parser: Any = importlib.import_module("re._parser")
    for possessive, last in endless(parser.parse(text)):
        if last:
            continue  # nothing follows that could fail, so that nothing is tried again
        if searched:
            return "is searched for, and what it repeats without a bound is looked at again from each place"
        if not possessive:
            return "repeats without a bound and tries again with less; write ++ or *+, or a bound"
    return ""


def test_no_pattern_takes_longer_than_the_text_is_long() -> None:
    found = list(patterns())
    assert len(found) > 12
    wrong = {
        f"{module.__name__} {name}: {text}": why
        for module, name, text, searched in found
        if (why := problem(text, searched=searched)) and (module.__name__, name) not in LINEAR
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "searched", "fine"),
    [
        (r"(a+)+b", False, False),
        (r"\s*(.*?)\s*\Z", False, False),
        (r"a++b", False, True),
        (r"a++b", True, False),
        (r"x=([^&]*)", True, True),
        (r"a{1,64}b", True, True),
        (r"(?:a++-)*+b", False, True),
    ],
)
def test_the_check_of_patterns_can_fail(text: str, searched: bool, fine: bool) -> None:
    assert (problem(text, searched=searched) == "") is fine
