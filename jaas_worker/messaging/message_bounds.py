"""PURE: how the JSON of queue entries, broadcasts and notices is decoded, within the bounds of jaas_submit."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Final

from jaas_submit.model.bounds import MAX_DEPTH, MAX_VALUES, shown

__all__ = ["MAX_ENTRY_BYTES", "MAX_REASON", "read_json"]

MAX_ENTRY_BYTES: Final = 2 * 1024 * 1024
"""Size of a queue entry or a broadcast."""

MAX_REASON: Final = 400
"""Characters that are quoted of why something cannot be taken."""

_MAX_DIGITS: Final = 1000

# Each match ends, at the end of the text at the latest: nothing is looked at twice.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_SOME: Final = re.compile(rb'(?:[^"]*+"(?:[^"\\]|\\.)*+(?:"|\\?\Z)){0,4096}[^"]*+', re.DOTALL)
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_SPACE: Final = b" \t\r\n"
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]"))


def read_json(data: bytes, most: int = MAX_ENTRY_BYTES, *, typed: bool = False) -> Any:
    """Return what a JSON text that somebody else wrote says.

    Args:
        data: the text, in UTF-8.
        most: bytes that it may have.
        typed: whether it is a body, which kombu will make values of where ``__type__`` says so. A number
            that is not finite is left to the check of the description, which names the field.

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
        end = at + len(_SOME.match(data, at)[0])  # type: ignore[index] # it matches everything, and something
        parts.append(_STRING.sub(b"0", data[at:end]).translate(_SQUARE, _SPACE))
        at = end
    return b"".join(parts)


def _too_deep(bare: bytes) -> bool:
    brackets = bare.translate(None, _NO_BRACKETS)
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
