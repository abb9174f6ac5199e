"""What another package's internal looks like, as one line: for tests that are to fail when it changes."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import textwrap
from types import ModuleType
from typing import Any

__all__ = ["shape"]


def shape(name: str, *, body: bool = False) -> str:
    """Return the shape of an internal.

    A function's is its signature without annotations, a value's the value or its type, and of what a class sets in its
    methods only (``self.x = ...``) it is that statement, of which the beginning counts.

    Args:
        name: dotted, from the package on.
        body: also a checksum of its source: for what is written anew here, and has to follow the original.

    Raises:
        AttributeError: there is no such thing.
    """
    owner, last = _owner(name)
    if not hasattr(owner, last):
        return _nested(owner, last) if inspect.isfunction(owner) else _assigned(owner, last)
    found = inspect.getattr_static(owner, last)
    text = _describe(found, getattr(owner, last))
    return f"{text} {_checksum(found)}" if body else text


def _owner(name: str) -> tuple[Any, str]:
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise AttributeError(name)


def _describe(found: Any, value: Any) -> str:
    if isinstance(found, property):
        return "property"
    if type(found).__name__ == "cached_property":  # functools' and kombu's
        return "cached property"
    if inspect.isclass(value):
        return f"class {_signature(value)}"
    if callable(value):
        plain = getattr(found, "__func__", found)
        return _signature(value if isinstance(found, functools.partial) else plain)
    return f"= {_value(value, 60) or type(value).__name__}"


def _value(value: Any, most: int) -> str | None:
    """Return a value as it is written in source; None where that is longer than ``most``, or cannot be."""
    text = repr(value)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return text if len(text) <= most else None


def _signature(function: Any) -> str:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return "(?)"
    parts, starred = [], False
    for one in signature.parameters.values():
        star = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
        if one.kind is one.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred = starred or one.kind in {one.VAR_POSITIONAL, one.KEYWORD_ONLY}
        default = "" if one.default is one.empty else f"={_value(one.default, 20) or '...'}"
        parts.append(f"{star}{one.name}{default}")
    return f"({', '.join(parts)})"


def _checksum(found: Any) -> str:
    source = found if isinstance(found, str) else inspect.getsource(getattr(found, "func", None) or _function(found))
    return f"#{hashlib.sha256(textwrap.dedent(source).encode()).hexdigest()[:8]}"


def _function(found: Any) -> Any:
    return getattr(found, "fget", None) or getattr(found, "__func__", found)


def _assigned(owner: Any, last: str) -> str:
    """Return what a class or its bases assign to an attribute of their instances."""
    for cls in (owner,) if isinstance(owner, ModuleType) else owner.__mro__[:-1]:
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls)))):
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                for one in target.elts if isinstance(target, ast.Tuple) else (target,):
                    if isinstance(one, ast.Attribute) and one.attr == last and ast.unparse(one.value) == "self":
                        return f"self.{last} = {ast.unparse(node.value)}"[:70]
    raise AttributeError(f"{owner.__module__}.{owner.__qualname__} has no {last}")


def _nested(owner: Any, last: str) -> str:
    """Return the arguments of a function that is defined within another one."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(owner)))):
        if isinstance(node, ast.FunctionDef) and node.name == last:
            return f"({ast.unparse(node.args)})"
    raise AttributeError(f"{owner.__qualname__} has no {last}")
