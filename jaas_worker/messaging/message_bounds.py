"""PURE: how large and how deep a text from elsewhere may be before it is decoded, and how it is decoded."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Final

__all__ = ["MAX_ENTRY_BYTES", "plain_text", "read_json"]

MAX_ENTRY_BYTES: Final = 2 * 1024 * 1024
"""Size of a queue entry or a broadcast."""

MAX_DEPTH: Final = 64
"""Objects and lists inside each other."""

_MAX_DIGITS: Final = 1000

# Each match ends, at the end of the text at the latest: nothing is looked at twice.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def plain_text(text: object, longest: int = 400) -> str:
    """Return a text of at most so many characters, without the unpaired surrogates that Redis cannot hold.

    Args:
        text: from anywhere.
        longest: in characters.
    """
    return str(text)[:longest].encode(errors="backslashreplace").decode()


def read_json(data: bytes, most: int = MAX_ENTRY_BYTES, *, typed: bool = False) -> Any:
    """Return what a JSON text that somebody else wrote says.

    Args:
        data: the text, in UTF-8.
        most: bytes that it may have.
        typed: whether it is a body, which kombu will make values of where ``__type__`` says so. A number
            that is not finite is left to the check of the description, which names the field.

    Raises:
        ValueError: it is larger, nested deeper than ``MAX_DEPTH``, or no JSON; a number is not finite, or has more than
            1,000 digits.
    """
    if len(data) > most:
        raise ValueError(f"it has {len(data):,} bytes, of which at most {most:,} are read")
    if _too_deep(data):
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    try:
        return json.loads(
            data.decode(),
            parse_int=_whole_number,
            parse_float=None if typed else _finite_number,
            parse_constant=None if typed else _no_number,
            object_hook=_typed_value if typed else None,
        )
    except ValueError as error:
        raise ValueError(f"it is not JSON ({plain_text(error, 150)})") from error


def _too_deep(data: bytes) -> bool:
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", data).translate(_SQUARE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):  # each turn takes off the innermost ones
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    # What never closes is no JSON, but must not bring the decoder to its limits.
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
