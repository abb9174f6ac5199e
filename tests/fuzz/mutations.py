"""Mutations of JSON values, of texts, and of bytes. Each is a function of a random source and what it changes."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.fuzz.odd import LIMIT, ODD, as_json, odd

__all__ = ["BYTES", "TREE", "mutate", "mutate_bytes"]

Place = tuple[Any, Any]
"""A list or an object, and an index or a name in it."""


def _places(tree: Any) -> Iterator[Place]:
    names: Any = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for name in names:
        yield tree, name
        yield from _places(tree[name])


def _shown(text: str) -> str:
    return repr(text) if len(text) < 20 else f"{len(text):,} times {text[0]!r}"


def _replace(rng: random.Random, place: Place) -> str:
    one = odd(rng)
    place[0][place[1]] = one
    return one.name


def _drop(_rng: random.Random, place: Place) -> str:
    del place[0][place[1]]
    return ""


def _add(rng: random.Random, place: Place) -> str:
    where, _ = place
    one, name = odd(rng), rng.choice(_NAMES)
    if isinstance(where, dict):
        where[name] = one
    else:
        where.append(one)
    return f"{_shown(name)} is {one.name}"


def _rename(rng: random.Random, place: Place) -> str:
    where, old = place
    name = rng.choice(_NAMES)
    if isinstance(where, dict):
        where[name] = where.pop(old)
    return _shown(name)


def _wrap(rng: random.Random, place: Place) -> str:
    where, name = place
    where[name] = [where[name]] if rng.random() < 0.5 else {"a": where[name]}
    return ""


def _as_text(_rng: random.Random, place: Place) -> str:
    where, name = place
    where[name] = as_json(where[name]).decode("utf-8", "replace")
    return ""


def _repeat(rng: random.Random, place: Place) -> str:
    where, name = place
    times = rng.choice((2, 50, 1_000))
    if isinstance(where[name], str):
        where[name] = where[name] * times
    else:
        where[name] = [where[name]] * times
    return f"{times} times"


def _append(rng: random.Random, place: Place) -> str:
    where, name = place
    piece = rng.choice(_PIECES)
    if isinstance(where[name], str):
        where[name] = where[name] + piece if rng.random() < 0.5 else piece + where[name]
    return _shown(piece)


TREE: Final[tuple[tuple[str, int, Callable[[random.Random, Place], str]], ...]] = (
    ("replaced by", 8, _replace),
    ("dropped", 3, _drop),
    ("beside it", 3, _add),
    ("renamed to", 1, _rename),
    ("wrapped", 1, _wrap),
    ("as a text", 1, _as_text),
    ("repeated", 1, _repeat),
    ("with", 2, _append),
)
"""Name, weight, and what is done at a place of a JSON value."""

_NAMES: Final = (
    "",
    "a",
    "\ud800",
    "a\nb",
    "a\x00b",
    "x" * 3000,
    "self",
    "__class__",
    "id",
    "task",
    "spec",
    "version",
    "$ref",
)
_PIECES: Final = ("\n", "\x00", " ", "\ud800", "'", '"', "\\", ":", "=", "1" * 5000, "\u202e", "\x1b[31m", "-", "e9")


def mutate(rng: random.Random, tree: Any, times: int = 0) -> tuple[Any, str]:
    """Return a mutated copy of a JSON value, and what was done to it.

    Args:
        rng: decides.
        tree: the value; it is not changed.
        times: how many mutations; 0 for one to three.
    """
    root = [copy.deepcopy(tree)]
    done = []
    for _ in range(times or rng.choice((1, 1, 1, 2, 3))):
        place = rng.choice(list(_places(root)))
        name, _, apply = rng.choices(TREE, [weight for _, weight, _ in TREE])[0]
        if place[0] is root and name != "replaced by":
            name, apply = TREE[0][0], _replace
        path = "the whole" if place[0] is root else str(place[1])[:40]
        done.append(f"{path!r} {name} {apply(rng, place)}".strip())
    return root[0], "; ".join(done)


def _position(rng: random.Random, raw: bytes) -> int:
    return rng.randrange(len(raw) + 1)


def _put(what: bytes) -> Callable[[random.Random, bytes], bytes]:
    def put(rng: random.Random, raw: bytes) -> bytes:
        at = _position(rng, raw)
        return raw[:at] + what + raw[at:]

    return put


def _truncate(rng: random.Random, raw: bytes) -> bytes:
    return raw[: _position(rng, raw)]


def _flip(rng: random.Random, raw: bytes) -> bytes:
    at = _position(rng, raw)
    return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]


def _in_a_text(rng: random.Random, raw: bytes) -> bytes:
    """Put a raw newline right behind a quotation mark: cjson reads it, and Python does not."""
    quotes = [at for at, one in enumerate(raw[:20_000]) if one == ord('"')] or [0]
    at = rng.choice(quotes) + 1
    return raw[:at] + b"\n" + raw[at:]


def _sized(size: int) -> Callable[[random.Random, bytes], bytes]:
    return lambda _rng, raw: raw + b" " * max(size - len(raw), 0)


def _nested(levels: int) -> Callable[[random.Random, bytes], bytes]:
    return lambda _rng, raw: b"[" * levels + raw + b"]" * levels


BYTES: Final[tuple[tuple[str, Callable[[random.Random, bytes], bytes]], ...]] = (
    ("cut off", _truncate),
    ("a byte changed", _flip),
    ("a raw newline in a text", _in_a_text),
    ("a newline", _put(b"\n")),
    ("a NUL", _put(b"\x00")),
    ("no UTF-8", _put(b"\xff\xfe\xc3")),
    ("a surrogate in UTF-8", _put(b"\xed\xa0\x80")),
    ("an escaped surrogate", _put(b"\\ud800")),
    ("a brace", _put(b"}")),
    ("a quotation mark", _put(b'"')),
    ("an endless number", _put(b"1e999")),
    ("garbage behind it", lambda _rng, raw: raw + b" garbage"),
    ("a byte order mark", lambda _rng, raw: b"\xef\xbb\xbf" + raw),
    ("UTF-16", lambda _rng, raw: raw.decode("utf-8", "replace").encode("utf-16")),
    ("twice", lambda _rng, raw: raw + raw),
    ("in 60 lists", _nested(60)),
    ("in 100,000 lists", _nested(100_000)),
    ("in lists without end", lambda _rng, raw: b"[" * 50_000 + raw),
    ("just small enough", _sized(LIMIT)),
    ("just too large", _sized(LIMIT + 1)),
    ("nothing", lambda _rng, _raw: b""),
    ("a number", lambda _rng, _raw: b"9" * 6_000),
    ("an odd value", lambda rng, _raw: rng.choice([one.token.encode() for one in ODD if one.token])),
)
"""Name, and what is done to bytes."""


def mutate_bytes(rng: random.Random, raw: bytes) -> tuple[bytes, str]:
    """Return mutated bytes, and what was done to them."""
    name, apply = rng.choice(BYTES)
    return apply(rng, raw), name
