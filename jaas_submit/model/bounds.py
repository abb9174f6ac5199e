"""PURE: the bounds of what others send. A text is bounded before a pattern or a conversion sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["MAX_DEPTH", "MAX_VALUES", "bounded", "check_plain", "shown", "whole"]

MAX_DEPTH: Final = 64
"""How deep lists and objects may be nested in a value."""

MAX_VALUES: Final = 262_144
"""How many values, lists and objects included, a value may hold: as JSON each takes two bytes of the 512 KiB."""

_MAX_BITS: Final = 14_000
"""Of a whole number: Python writes none of more than 4,300 digits, which are some 14,280 bits."""

_SHOWN: Final = 60


def bounded(text: str, most: int) -> str:
    """Return a text as it is, if it is short enough to be looked at.

    Args:
        text: from whoever sent it.
        most: how many characters it may have.

    Raises:
        ValueError: it has more.
    """
    if len(text) > most:
        raise ValueError(f"has {len(text):,} characters, more than the {most:,} allowed")
    return text


def whole(text: str, most: int = 9) -> int:
    """Return the whole number, from 0 on, that a text of ASCII digits is.

    Args:
        text: from whoever sent it.
        most: how many digits it may have.

    Raises:
        ValueError: it is none.
    """
    if not (len(text) <= most and text.isascii() and text.isdigit()):
        raise ValueError(f"{shown(text)} is no whole number of at most {most} digits")
    return int(text)


def shown(text: str) -> str:
    """Return a text as a message may quote it: short, on one line, and in characters that can be printed.

    Args:
        text: from whoever sent it.
    """
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in cut)


def check_plain(value: object) -> None:
    """Check that a value is small enough for code that follows its nesting, and that its numbers can be written.

    Args:
        value: any value. Objects that are no part of JSON are passed over: their own types are checked elsewhere.

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
