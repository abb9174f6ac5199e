"""Every public name exists, is documented, and is where ``__all__`` says."""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel

import jaas_submit
import jaas_worker

MODULES = [
    name
    for package in (jaas_submit, jaas_worker)
    for name in (
        package.__name__,
        *(module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    )
]


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def is_defined(name: str, thing: object) -> bool:
    """Return whether it is a class or function, and not a value that happens to be callable."""
    return (inspect.isclass(thing) or inspect.isroutine(thing)) and thing.__name__ == name


def public(module: ModuleType) -> dict[str, object]:
    return {name: getattr(module, name) for name in getattr(module, "__all__", ())}


def test_a_module_says_what_it_is_for(module: ModuleType) -> None:
    assert module.__doc__
    assert module.__doc__.strip()


def test_all_names_that_are_promised_exist(module: ModuleType) -> None:
    assert [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)] == []
    assert len(set(public(module))) == len(public(module))


def test_classes_and_functions_are_documented(module: ModuleType) -> None:
    silent = [n for n, thing in public(module).items() if is_defined(n, thing) and not (thing.__doc__ or "").strip()]
    assert silent == []


def test_no_public_name_is_forgotten(module: ModuleType) -> None:
    promised = getattr(module, "__all__", ())
    forgotten = [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and is_defined(name, thing)
        and thing.__module__ == module.__name__
        and name not in promised
    ]
    assert forgotten == []


@pytest.mark.parametrize("name", jaas_submit.__all__)
def test_what_producers_use_is_documented_down_to_its_methods(name: str) -> None:
    thing = getattr(jaas_submit, name)
    if not inspect.isclass(thing):
        return
    silent = [
        method
        for method, value in vars(thing).items()
        if not method.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod))
        and not inspect.getdoc(value if isinstance(value, property) else getattr(thing, method))
    ]
    assert silent == []


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        jaas_submit.no_such_name  # noqa: B018
    assert set(jaas_submit.__all__) <= set(dir(jaas_submit))


@pytest.mark.parametrize("name", ["Client", "JobHandle", "Batch", "MapReduce"])
def test_both_clients_have_the_same_verbs_with_the_same_signatures(name: str) -> None:
    sync, asynchronous = getattr(jaas_submit, name), getattr(jaas_submit, f"Async{name}")
    assert verbs(asynchronous) == verbs(sync)


@pytest.mark.parametrize("kind", [jaas_submit.AsyncClient, jaas_submit.AsyncBatch, jaas_submit.AsyncJobHandle])
def test_what_asyncio_gets_says_what_it_takes(kind: type) -> None:
    """Only ``replay`` and ``retry_failed`` take any name: those of a description's fields."""
    open_ended = {
        name
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
        and any(one.kind is one.VAR_KEYWORD for one in inspect.signature(method).parameters.values())
    }
    assert open_ended <= {"replay", "retry_failed"}


def verbs(of: type) -> dict[str, str]:
    """Return the signature of each public method, as the synchronous side would write it."""
    found = {}
    for name, value in inspect.getmembers(of):
        if isinstance(value, property):
            # A property there is a method without arguments here, unless it asks nobody.
            found[name] = f"(self) -> {value.fget.__annotations__['return']}"
        elif inspect.isfunction(value) and (not name.startswith("_") or name == "__init__"):
            found[name] = str(inspect.signature(value))
    return {name: text.replace("Async", "").replace("'", "") for name, text in found.items()}


PUBLIC = [thing for thing in (getattr(jaas_submit, name) for name in jaas_submit.__all__) if inspect.isclass(thing)]


@pytest.mark.parametrize("of", PUBLIC, ids=lambda of: of.__name__)
def test_what_public_methods_take_and_return_is_public(of: type) -> None:
    """Every type in a public signature is in ``jaas_submit``. The base class of a public one need not be."""
    bases = {base for thing in PUBLIC for base in thing.__mro__}
    hidden = {
        kind.__name__ for kind in classes_in(of) if kind.__module__.startswith("jaas_submit") and kind not in bases
    }
    assert hidden == set()


@pytest.mark.parametrize("of", PUBLIC, ids=lambda of: of.__name__)
def test_errors_that_public_methods_raise_are_public(of: type) -> None:
    told = [inspect.getdoc(of) or "", *(inspect.getdoc(value) or "" for _, value in methods(of))]
    raised = {
        name for text in told for name in re.findall(r"^    (\w+): ", text.partition("\nRaises:\n")[2], re.MULTILINE)
    }
    assert {name for name in raised if not hasattr(builtins, name)} <= set(jaas_submit.__all__)


@pytest.mark.parametrize("of", PUBLIC, ids=lambda of: of.__name__)
def test_each_argument_of_a_public_method_is_explained(of: type) -> None:
    """Its docstring explains it, or refers to another docstring that does."""
    unexplained = [
        f"{name}({argument})"
        for name, method in methods(of)
        if inspect.isfunction(method)
        for argument in list(inspect.signature(method).parameters)[not isinstance(vars(of).get(name), staticmethod) :]
        if not re.search(rf"^    {argument}: ", inspect.getdoc(method) or "", re.MULTILINE)
        and not re.search(r"\b([Ss]ee|as) ``", inspect.getdoc(method) or "")
    ]
    assert unexplained == []


def methods(of: type) -> list[tuple[str, Any]]:
    """Return the public methods and properties of a class that are written in this package."""
    found = {name: getattr(value, "fget", value) for name, value in inspect.getmembers(of) if name[0] != "_"}
    return [(name, value) for name, value in found.items() if str(getattr(value, "__module__", "")).startswith("jaas_")]


def classes_in(of: type) -> set[type]:
    later = {name: getattr(jaas_submit, name) for name in jaas_submit.__all__}  # some are imported when they are needed
    hints = [get_type_hints(of)] if BaseModel in of.__mro__ else []
    hints += [get_type_hints(value, localns=later) for _, value in methods(of) if inspect.isfunction(value)]
    return {kind for hint in hints for one in hint.values() for kind in flat(one)}


def flat(hint: Any) -> set[type]:
    parts = {kind for one in get_args(hint) for kind in (flat(one) if not isinstance(one, list) else ())}
    return parts | ({hint} if inspect.isclass(hint) else set())


def test_a_producer_loads_nothing_that_it_did_not_ask_for() -> None:
    wanted = "import sys; from jaas_submit import Client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", wanted], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "jaas_submit.client.client" in loaded
    parts = {"client.async_client", "cli.main", "policy.rules", "explain.explanation", "placement.placement"}
    modules = {"jaas_worker", *(f"jaas_submit.{part}" for part in parts)}
    packages = {"celery", "kombu", "redis", "asyncio", "ssl", "opentelemetry", "jsonschema", "requests"}
    packages |= {"rich", "fsspec", "docker", "cloudpickle", "fakeredis"}
    assert loaded & (modules | packages) == set()
