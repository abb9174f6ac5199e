"""PURE: the engine's times, which are texts."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from jaas_submit.model.bounds import bounded

__all__ = ["parse_time"]

_MAX_TIME_CHARS: Final = 64
"""Of a time; RFC 3339 needs 35."""

_NANOSECONDS: Final = re.compile(r"(\.\d{6})\d+")


def parse_time(text: str) -> datetime | None:
    """Return an engine's time; None for an empty one, for the engine's "never" (year 1), and for what is no time.

    Args:
        text: RFC 3339, with up to nine digits of a second.
    """
    if not text or text.startswith("0001-"):
        return None
    try:
        plain = _NANOSECONDS.sub(r"\1", bounded(text, _MAX_TIME_CHARS)).replace("Z", "+00:00")
        return datetime.fromisoformat(plain).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
