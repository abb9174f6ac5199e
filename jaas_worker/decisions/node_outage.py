"""PURE: how a job's record says that its node is down, so that whoever takes the job over knows since when."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from jaas_worker.decisions.times import parse_time

__all__ = ["down_since", "node_down_detail"]

_DETAIL: Final = re.compile(r"is down since ([0-9:TZ-]{20}): whether the container still runs is unknown\Z")


def node_down_detail(node: str, since: datetime) -> str:
    """Return what the record of a job says while the node of its attempt is down.

    Args:
        node: host name of the node.
        since: when it was seen to be down.
    """
    at = since.astimezone(UTC)
    return f"node {node} is down since {at:%Y-%m-%dT%H:%M:%SZ}: whether the container still runs is unknown"


def down_since(detail: str) -> datetime | None:
    """Return when the node was seen to be down; None where the record's detail says no such thing.

    Args:
        detail: of the record.
    """
    found = _DETAIL.search(detail)
    return parse_time(found[1]) if found else None
