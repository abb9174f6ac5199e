"""PURE: how many jobs of a batch may fail: a number or a share."""

from __future__ import annotations

import re
from typing import Final

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown

__all__ = ["MaxFailures", "max_failures_text"]

MaxFailures = int | float | str
"""A number of jobs (3), or a share of them (0.1 or "10%")."""

_NUMBER: Final = re.compile(r"[0-9]{1,9}\Z")
_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%\Z")
_PART: Final = re.compile(r"0?\.[0-9]{1,6}\Z")
_FIX: Final = "write a number of jobs such as 3, or a share such as 0.1 or 10%"


def max_failures_text(value: MaxFailures | None) -> str | None:
    """Return a limit as a batch's record holds it: ``3`` or ``10%``.

    Args:
        value: how many jobs may fail; None for any number.

    Raises:
        SpecError: it is none of these.
    """
    if value is None:
        return None
    if isinstance(value, float):
        if not 0 < value < 1:
            raise _error(value)
        return f"{100 * value:.6f}".rstrip("0").rstrip(".") + "%"
    text = "" if isinstance(value, bool) else str(value).strip()[:40]
    if _NUMBER.match(text):
        return str(int(text))
    if (share := _SHARE.match(text)) and float(share[1]) < 100:
        return text
    if _PART.match(text) and float(text) > 0:
        return max_failures_text(float(text))
    raise _error(value)


def _error(value: object) -> SpecError:
    return SpecError(f"max_failures: {shown(str(value))} is no limit; {_FIX}", field="max_failures")
