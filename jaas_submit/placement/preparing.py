"""PURE: how a job's record says that a node gets its container ready: it pulls the image, if that is not there."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

__all__ = ["Preparing", "preparing_detail", "preparing_in"]

_DETAIL: Final = re.compile(r"preparing on ([^\s]{1,255}) since ([0-9:TZ-]{20})\Z")


class Preparing(NamedTuple):
    """A node gets a container ready."""

    node: str
    """Its host name."""
    since: datetime
    """By the clock of the node's engine."""


def preparing_detail(node: str, since: datetime) -> str:
    """Return what the record of a job says meanwhile.

    Args:
        node: host name of the node.
        since: when it began.
    """
    return f"preparing on {node} since {since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def preparing_in(detail: str) -> Preparing | None:
    """Return what a record says of it; None where its detail says something else.

    Args:
        detail: of the record.
    """
    found = _DETAIL.match(detail)
    try:
        return Preparing(found[1], datetime.fromisoformat(found[2])) if found else None
    except ValueError:
        return None
