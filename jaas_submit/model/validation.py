"""Errors of a job description, in one sentence that names the field and the fix."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import PurePath
from typing import Any, Final, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import MAX_DEPTH, check_plain, shown

__all__ = ["kind_of", "labels_or_none", "member", "plain_input", "shown_name", "spec_error", "text_or_none"]

E = TypeVar("E", bound=StrEnum)

_NAMED = re.compile(r"([a-z_]++(?:\.[a-z_]++)*+): ")


_PLAIN: Final[tuple[tuple[Any, Callable[[Any], object]], ...]] = (
    (Enum, lambda one: one.value),
    ((Decimal, UUID, PurePath), str),
    ((date, time), lambda one: one.isoformat()),
    (timedelta, lambda one: one.total_seconds()),
    (BaseModel, lambda one: one.model_dump(mode="json")),
)
"""Types that JSON does not know, and what they are written as."""

_REMEDIES: Final[tuple[tuple[Any, str], ...]] = (
    ((set, frozenset), "a set has no order; pass sorted(...) or list(...) of it"),
    ((bytes, bytearray, memoryview), "bytes are no JSON value; pass base64.b64encode(...).decode(), or a URL"),
)


def text_or_none(what: str, value: object, remedy: str) -> str | None:
    """Return an argument that must be a text, or None.

    Args:
        what: its name.
        value: what the caller gave.
        remedy: what to do where it is empty.

    Raises:
        SpecError: it is no text, or an empty one.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise SpecError(f"{what}: must be a text, not {kind_of(value)}; pass str(...) of it", field=what)
    if not value.strip():
        raise SpecError(f"{what}: must not be empty; {remedy}", field=what)
    return value


def labels_or_none(value: object) -> Mapping[str, str] | None:
    """Return labels to choose jobs by, or None.

    Args:
        value: what the caller gave.

    Raises:
        SpecError: it is no mapping of texts.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise SpecError('labels: must be names and values in texts, such as {"team": "web"}', field="labels")
    return value


def plain_input(value: object, name: str = "input") -> Any:
    """Return a job's input as JSON has it: dates in ISO 8601, decimals as texts, data classes and models as objects.

    Args:
        value: from a producer's program.
        name: what an error calls it.

    Raises:
        SpecError: it has no such form; the text names its type and the remedy.
    """
    try:
        check_plain(value)
    except ValueError as error:
        raise SpecError(f"{name}: {error}", field=name) from None
    return _as_plain(value, (name,))


def _as_plain(value: object, path: tuple[str, ...]) -> Any:
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, Enum)):
        return value
    if len(path) > MAX_DEPTH:
        raise _not_plain(path[:1], f"is nested deeper than the {MAX_DEPTH} levels allowed; pass it as a text")
    if is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise _not_plain((*path, shown(name)), f"a name must be a text, not {kind_of(name)}; pass str(name)")
        return {name: _as_plain(one, (*path, name)) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(one, (*path, str(number))) for number, one in enumerate(value)]
    for kind, convert in _PLAIN:
        if isinstance(value, kind):
            return _as_plain(convert(value), path)
    remedy = next((text for kind, text in _REMEDIES if isinstance(value, kind)), "")
    other = (
        f"a {type(value).__name__} is no JSON value; pass numbers, texts, lists and objects, or a data class of them"
    )
    raise _not_plain(path, remedy or other)


def _not_plain(path: tuple[str, ...], text: str) -> SpecError:
    field = ".".join(map(shown, path))
    return SpecError(f"{field}: {text}", field=field)


def kind_of(value: object) -> str:
    """Return the type of a value in words, without the value."""
    names: dict[type, str] = {
        list: "a list",
        tuple: "a list",
        str: "a text",
        int: "a number",
        float: "a number",
        bool: "a truth value",
    }
    return "nothing" if value is None else names.get(type(value), f"a {type(value).__name__}")


def member(kind: type[E], what: str, given: str | None) -> E | None:
    """Return the member of an enumeration that a caller names, in upper or lower case; None stays None.

    Args:
        kind: the enumeration.
        what: the argument's name, for the error.
        given: a member, or its value.

    Raises:
        SpecError: there is no such member.
    """
    if given is None:
        return None
    for one in kind:
        if isinstance(given, str) and one.casefold() == given.casefold():
            return one
    found = repr(shown(given)) if isinstance(given, str) else kind_of(given)
    raise SpecError(f"{what}: {found} is none; there are {', '.join(map(str.lower, kind))}", field=what)


def shown_name(name: str) -> str:
    """Return the part of a variable's name for an error text: nothing behind a '=', which may be a secret value."""
    return name.partition("=")[0][:40]


_FIXES: Final[dict[str, str]] = {
    "extra_forbidden": "is no field of a job description; check the spelling (`jaas schema` lists them)",
    "missing": "is required",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "dict_type": "must be an object of names and values",
    "model_type": "must be an object of names and values",
    "tuple_type": "must be a list",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "list_type": "must be a list",
    "greater_than_equal": "must be {ge} at least",
    "less_than_equal": "must be {le} at most",
    "greater_than": "must be more than {gt}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}

_PATTERNS: Final[dict[str, str]] = {
    r"^/[^\x00]*$": "must be an absolute path, such as /data",
}
"""What texts must match, in words."""


def _sentence(detail: ErrorDetails) -> tuple[str, str]:
    """Return the field's path and the error, in words that name the fix."""
    parts = [str(part) for part in detail["loc"] if part != "[key]"]
    if parts[:1] == ["env"]:
        parts = [shown_name(part) for part in parts]
    elif parts[:1] == ["input"]:  # any value: pydantic lists each type that it tried
        parts = [part for part in parts if part not in {"list", "dict"}][:4]
    path = ".".join(shown(part) or "''" for part in parts)
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        text = str(context["error"])
        if named := _NAMED.match(text):  # a check of several fields names its field itself
            path, text = ".".join(filter(None, [path, named[1]])), text[named.end() :]
    elif kind == "literal_error" and path == "version":
        text = f"this jaas reads version {context['expected']} only; leave it out or upgrade the workers"
    elif kind in _FIXES:
        bounds = {
            name: int(one) if isinstance(one, float) and one.is_integer() else one for name, one in context.items()
        }
        text = _FIXES[kind].format_map(bounds)
        if kind == "greater_than_equal" and path.endswith("memory"):
            text = f"must be {context['ge']} bytes (6M) at least; a number without a unit means bytes"
    elif kind == "string_pattern_mismatch" and context["pattern"] in _PATTERNS:
        text = _PATTERNS[context["pattern"]]
    elif kind == "string_pattern_mismatch":
        text = f"has characters that are not allowed here; it must match {context['pattern']}"
    else:
        text = detail["msg"][0].lower() + detail["msg"][1:]
    return path, text


def spec_error(error: ValidationError) -> SpecError:
    """Return the error that names the first field that is wrong, and the fix."""
    details = error.errors(include_input=False, include_url=False)
    path, text = _sentence(details[0])
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return SpecError(f"{path}: {text}{more}" if path else f"{text}{more}", field=path)
