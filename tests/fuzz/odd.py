"""Odd values, as Python has them and as JSON writes them, and JSON that Python's own encoder does not write."""

from __future__ import annotations

import json
import random
from typing import Any, Final, NamedTuple

__all__ = ["DEEPER", "LIMIT", "ODD", "Odd", "as_json", "as_object", "odd"]

LIMIT: Final = 2 * 2**20
"""Bytes that a queue entry may have."""

DEEPER: Final = 65
"""Levels of nesting that are one more than allowed."""


class Odd(NamedTuple):
    """A value that nobody expects somewhere."""

    name: str
    value: Any
    """As Python has it."""
    token: str = ""
    """As it stands in JSON; empty where ``json.dumps`` writes it."""

    def __deepcopy__(self, _memo: object) -> Odd:
        return self


def _nested(levels: int) -> Any:
    made: Any = 1
    for level in range(levels):
        made = [made] if level % 2 else {"a": made}
    return made


ODD: Final[tuple[Odd, ...]] = (
    Odd("null", None),
    Odd("true", True),
    Odd("zero", 0),
    Odd("minus one", -1),
    Odd("minus zero", -0.0),
    Odd("2^31", 2**31),
    Odd("2^53 + 1", 2**53 + 1),
    Odd("2^63", 2**63),
    Odd("10^400", 10**400),
    Odd("10^5000", 10**5000, "1" + "0" * 5000),
    Odd("tiny", 5e-324),
    Odd("1e308", 1e308),
    Odd("1e999", float("inf"), "1e999"),
    Odd("-1e999", float("-inf"), "-1e999"),
    Odd("NaN", float("nan"), "NaN"),
    Odd("Infinity", float("inf"), "Infinity"),
    Odd("empty text", ""),
    Odd("blank", " "),
    Odd("number as text", "1e999"),
    Odd("64,000 digits", "1" * 64_000),
    Odd("16,000 units", "1s" * 16_000),
    Odd("half a surrogate pair", "\ud800", '"\\ud800"'),
    Odd("halves in the wrong order", "\udc00\ud800", '"\\udc00\\ud800"'),
    Odd("NUL", "a\x00b"),
    Odd("control characters", "a\x1b[2J\x07\r\nb"),
    Odd("line separators", "a\u2028b\u0085c"),
    Odd("right to left", "\u202eabc\ufeff"),
    Odd("raw newline", "a\nb", '"a\nb"'),
    Odd("raw NUL", "a\x00b", '"a\x00b"'),
    Odd("beyond the plane", "\U0010ffff" * 3),
    Odd("path", "../../etc/passwd"),
    Odd("template", "{{.Service.ID}}%s%(a)s${HOME}"),
    Odd("long text", "x" * 5_000),
    Odd("very long text", "y" * 300_000),
    Odd("empty list", []),
    Odd("empty object", {}),
    Odd("list of null", [None]),
    Odd("list of lists", [[], [[]]]),
    Odd("object", {"a": {"b": "c"}}),
    Odd("empty name", {"": 1}),
    Odd("reference", {"$ref": "file:///etc/passwd"}),
    Odd("pydantic's words", {"__root__": 1, "self": 2, "cls": 3}),
    *(
        Odd(f"kombu's {name}", {"__type__": name, "__value__": value})
        for name, value in (("decimal", "1e999999999"), ("datetime", "x"), ("uuid", "x"), ("bytes", "="), ("x", None))
    ),
    Odd("same name twice", {"a": 2}, '{"a":1,"a":2}'),
    Odd("64 deep", _nested(DEEPER - 10)),
    Odd("65 deep", _nested(DEEPER)),
    Odd("700 deep", _nested(700)),
    Odd("100,000 deep", _nested(60), "[" * 100_000 + "]" * 100_000),
    Odd("many numbers", list(range(20_000))),
    Odd("many names", {str(one): one for one in range(5_000)}),
    Odd("long ago", "0001-01-01T00:00:00+14:00"),
    Odd("past", "2020-01-01T00:00:00+00:00"),
    Odd("far ahead", "9999-12-31T23:59:59.999999-14:00"),
    Odd("no such day", "2030-02-31T12:00:00Z"),
)


def odd(rng: random.Random) -> Odd:
    """Return one of the odd values."""
    return rng.choice(ODD)


def as_object(tree: Any) -> Any:
    """Return a mutated value with its odd values as Python has them."""
    if isinstance(tree, Odd):
        return tree.value
    if isinstance(tree, dict):
        return {name: as_object(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [as_object(value) for value in tree]
    return tree


def as_json(tree: Any) -> bytes:
    """Return a mutated value as JSON, or what somebody might have meant for it."""
    return _text(tree).encode("utf-8", "surrogatepass")


def _text(tree: Any) -> str:
    if isinstance(tree, Odd):
        return tree.token or json.dumps(tree.value)
    if isinstance(tree, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_text(value)}" for name, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(_text, tree)) + "]"
    return json.dumps(tree)
