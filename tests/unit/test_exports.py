"""Every public name exists, is documented, and is where ``__all__`` says."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

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


@pytest.mark.parametrize(
    ("sync", "asynchronous"),
    [
        (jaas_submit.Client, jaas_submit.AsyncClient),
        (jaas_submit.JobHandle, jaas_submit.AsyncJobHandle),
        (jaas_submit.Batch, jaas_submit.AsyncBatch),
        (jaas_submit.MapReduce, jaas_submit.AsyncMapReduce),
    ],
)
def test_both_clients_have_the_same_verbs(sync: type, asynchronous: type) -> None:
    def verbs(of: type) -> set[str]:
        return {name for name in dir(of) if not name.startswith("_")}

    assert verbs(sync) - verbs(asynchronous) == set()
