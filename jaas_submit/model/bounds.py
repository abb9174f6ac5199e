"""PURE: the bounds of what others send. A text is bounded before a pattern, a conversion or a decoder sees it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

__all__ = [
    "MAX_DEPTH",
    "MAX_JSON_BYTES",
    "MAX_VALUES",
    "bounded",
    "check_plain",
    "counted",
    "parse_duration",
    "parse_size",
    "read_json",
    "shown",
    "whole",
]

MAX_JSON_BYTES: Final = 2 * 1024 * 1024
"""Size of a JSON text, unless the caller says another."""

MAX_DEPTH: Final = 64
"""How deep lists and objects may be nested in a value."""

MAX_VALUES: Final = 262_144
"""How many values, lists and objects included, a value may hold: as JSON each takes at least two bytes of the 512
KiB."""

_MAX_BITS: Final = 14_000
"""Limit of a whole number in bits: Python writes at most 4,300 digits, which are some 14,280 bits."""

_MAX_DIGITS: Final = 1000

# Each match ends at the end of the text at the latest, so no character is read twice.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_SOME_STRINGS: Final = re.compile(rb'(?:[^"]*+"(?:[^"\\]|\\.)*+(?:"|\\?\Z)){0,4096}[^"]*+', re.DOTALL)
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_SPACE: Final = b" \t\r\n"
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]"))


def bounded(text: str, most: int) -> str:
    """Return a text unchanged, if it is short enough.

    Args:
        text: foreign.
        most: how many characters it may have.

    Raises:
        ValueError: it has more.
    """
    if len(text) > most:
        raise ValueError(f"has {len(text):,} characters, more than the {most:,} allowed")
    return text


def whole(text: str, most: int = 9) -> int:
    """Return the non-negative whole number in a text of ASCII digits.

    Args:
        text: foreign.
        most: how many digits it may have.

    Raises:
        ValueError: it is invalid.
    """
    if not (len(text) <= most and text.isascii() and text.isdigit()):
        raise ValueError(f"{shown(text)} is no whole number of at most {most} digits")
    return int(text)


def shown(value: object, most: int = 60) -> str:
    """Return a text as a message may quote it: short, on one line, and in characters that can be printed and stored.

    Args:
        value: from whoever sent it; of what is no text, what ``str`` makes of it.
        most: how many characters are quoted; those that cannot be printed grow when they are written out.
    """
    text = str(value)
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in cut)


def check_plain(value: object) -> None:
    """Check that a value's size and depth are limited, and that its numbers can be written.

    Args:
        value: any value. Objects that are not JSON are skipped: their types are checked elsewhere.

    Raises:
        ValueError: it is nested too deep, or in itself; it holds too many values; a number is too large.
    """
    left: list[tuple[object, int]] = [(value, 0)]
    count = 0
    while left:
        one, depth = left.pop()
        if isinstance(one, int) and one.bit_length() > _MAX_BITS:
            raise ValueError("has a number that is too large")
        if not isinstance(one, Mapping | list | tuple):
            continue
        if depth >= MAX_DEPTH:
            raise ValueError(f"is nested deeper than the {MAX_DEPTH} levels allowed; pass it as a text")
        count += len(one)
        if count > MAX_VALUES:
            raise ValueError(f"holds more than the {MAX_VALUES:,} values allowed; pass large data by a mount or a URL")
        left.extend((part, depth + 1) for part in (one.values() if isinstance(one, Mapping) else one))


def read_json(data: bytes, most: int = MAX_JSON_BYTES, *, typed: bool = False) -> Any:
    """Decode a foreign JSON text.

    Args:
        data: the text, in UTF-8.
        most: bytes that it may have.
        typed: whether it is a body, in which kombu decodes values with ``__type__``. Numbers that are not finite are
            left to the check of the description, which names the field.

    Raises:
        ValueError: it is larger, nested deeper than ``MAX_DEPTH``, holds more than ``MAX_VALUES`` values, or is no
            JSON; a number is not finite, or has more than 1,000 digits.
    """
    if len(data) > most:
        raise ValueError(f"it has {len(data):,} bytes, of which at most {most:,} are read")
    _check_structure(data)
    try:
        return json.loads(
            data.decode(),
            parse_int=_whole_number,
            parse_float=None if typed else _finite_number,
            parse_constant=None if typed else _no_number,
            object_hook=_typed_value if typed else None,
        )
    except ValueError as error:
        raise ValueError(f"it is not JSON ({shown(error, 150)})") from error


def _check_structure(data: bytes) -> None:
    """Refuse what is too deep or holds too many values, before the decoder makes objects of some 200 bytes of each.

    What is no JSON may pass as far as the decoder does not follow it.
    """
    lists = data.count(b"[") + data.count(b"{")
    if lists <= MAX_DEPTH and data.count(b",") + lists < MAX_VALUES:
        return
    bare = _without_texts(data)
    if _too_deep(bare):
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    # Each list holds one more than it has commas, if it holds anything.
    if bare.count(b",") + bare.count(b"[") - bare.count(b"[]") > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")


def _without_texts(data: bytes) -> bytes:
    """Return JSON with a 0 for each text, without space, and with square brackets only."""
    parts: list[bytes] = []
    at = 0
    while at < len(data):  # by and by: what is replaced at once takes 180 bytes for each text
        end = at + len(_SOME_STRINGS.match(data, at)[0])  # type: ignore[index] # it matches everything, and something
        parts.append(_STRING.sub(b"0", data[at:end]).translate(_SQUARE, _SPACE))
        at = end
    return b"".join(parts)


def _too_deep(bare: bytes) -> bool:
    brackets = bare.translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):  # each pass removes the innermost ones
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    # Unclosed brackets are no JSON, but must not exceed the decoder's depth.
    return b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH


def _whole_number(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number is too long")
    return int(text)


def _finite_number(text: str) -> float:
    number = float(text) if len(text) <= _MAX_DIGITS else math.inf
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _no_number(_: str) -> float:
    raise ValueError("NaN and Infinity are no numbers of JSON")


def _typed_value(found: dict[str, Any]) -> dict[str, Any]:
    """Refuse a decimal number whose digits, written out, would fill the memory: ``1e999999999``."""
    if str(found.get("__type__")).lower() == "decimal":
        try:
            number = Decimal(found.get("__value__"))  # type: ignore[arg-type] # whatever was sent
            size = abs(number.adjusted()) if number.is_finite() else math.inf
        except (ArithmeticError, TypeError, ValueError):
            size = math.inf
        if size > _MAX_DIGITS:
            raise ValueError("a decimal number is too large")
    return found


def counted(count: int, thing: str, plural: str = "") -> str:
    """Return a number and its thing: ``1 job``, ``1,200 jobs``, ``2 batches``.

    Args:
        count: how many.
        thing: what, in the singular.
        plural: where it is not made with an s.
    """
    return f"{count:,} {thing if count == 1 else plural or f'{thing}s'}"


_MAX_CHARACTERS = 64
"""Of a duration or a size: room for all units and more digits than a float has."""

_DURATION_PART = re.compile(r"(\d{1,64}(?:\.\d{1,64})?)(ms|s|m|h|d)")
_DURATION_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d++(?:\.\d++)?+)\s*+([kmgt]?)i?b?\Z", re.IGNORECASE)
_SIZE_UNIT = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def parse_duration(value: object) -> float:
    """Return a duration in seconds.

    Args:
        value: a number of seconds, a ``timedelta``, or a text such as ``90``, ``60s``, ``1h30m`` or ``500ms``.

    Raises:
        ValueError: it has another form, or it is negative.
    """
    if isinstance(value, bool):
        raise ValueError("give seconds or a duration such as 60s or 1h30m")
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float):
        seconds = _as_float(value)
    else:
        text = _text(value, "give seconds or a duration such as 60s or 1h30m")
        parts = _DURATION_PART.findall(text)
        if parts and "".join(n + u for n, u in parts) == text:
            seconds = sum(float(n) * _DURATION_UNIT[u] for n, u in parts)
        else:
            try:
                seconds = float(text)
            except ValueError:
                raise ValueError("give seconds or a duration such as 60s or 1h30m") from None
    if not 0 <= seconds < float("inf"):
        raise ValueError("must not be negative or endless; give seconds or a duration such as 60s")
    return seconds


def parse_size(value: object) -> int:
    """Return a size in bytes.

    Args:
        value: a number of bytes, or a text such as ``512M`` or ``1.5GiB`` (powers of 1024, as the docker CLI has them).

    Raises:
        ValueError: it has another form, or it is negative.
    """
    if isinstance(value, bool):
        raise ValueError("give bytes or a size such as 512M")
    if isinstance(value, int | float):
        size = _as_float(value)
    else:
        match = _SIZE.match(_text(value, "give bytes or a size such as 512M"))
        if not match:
            raise ValueError("give bytes or a size such as 512M, never a negative one")
        size = float(match[1]) * _SIZE_UNIT[match[2].lower()]
    if not 0 <= size < 2**63:
        raise ValueError("must not be negative or beyond 64 bits; give bytes or a size such as 512M")
    return int(size)


def _text(value: object, fix: str) -> str:
    if not isinstance(value, str):
        raise ValueError(fix)
    return bounded(value, _MAX_CHARACTERS).strip()


def _as_float(value: float) -> float:
    """Return the number as a float; JSON allows whole numbers that no float can hold."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
