"""Errors of a job description, in one sentence that names the field and the fix."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown

__all__ = ["kind_of", "member", "shown_name", "spec_error"]

E = TypeVar("E", bound=StrEnum)

_NAMED = re.compile(r"([a-z_]++(?:\.[a-z_]++)*+): ")


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
}


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
    elif kind in _FIXES:
        text = _FIXES[kind]
    elif kind == "literal_error" and path == "version":
        text = f"this jaas reads version {context['expected']} only; leave it out or upgrade the workers"
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
