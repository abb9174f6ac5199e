"""PURE: why a waiting job is not started, as codes that programs read, and as sentences that people read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["PRECEDENCE", "Code", "Reason"]


class Code(StrEnum):
    """Why a job waits. Where several apply, the one that is named first here is told."""

    # Somebody has held the job or its batch.
    HELD = "held"
    # Its start time (not_before), or the time of its next attempt, has not come.
    NOT_BEFORE = "not_before"
    # It failed on several nodes, so it is not tried on more.
    POISON_INPUT = "poison_input"
    # There is no queue of that name.
    QUEUE_UNKNOWN = "queue_unknown"
    # Its queue is paused.
    QUEUE_PAUSED = "queue_paused"
    # It names a group that nobody has made.
    GROUP_UNKNOWN = "group_unknown"
    # It wants more of a group than the whole group has.
    GROUP_TOO_SMALL = "group_too_small"
    # No node could take it, even with nothing else running.
    NO_NODE = "no_node"
    # Its queue has as many jobs in flight as it may.
    QUEUE_FULL = "queue_full"
    # Its tenant has as many jobs in flight as it may.
    TENANT_FULL = "tenant_full"
    # Its tenant uses its quota and may not borrow.
    QUOTA = "quota"
    # A concurrency group has no place left.
    GROUP_FULL = "group_full"
    # Another job with its singleton key is active.
    SINGLETON = "singleton"
    # Its rate limit lets the next one start later.
    RATE = "rate"
    # The free room is kept for a tenant that does not lend its quota.
    QUOTA_KEPT = "quota_kept"
    # The nodes with room for it keep that for a larger job that came first.
    RESERVED = "reserved"
    # No node has room for it now.
    CAPACITY = "capacity"
    # Nothing but the order: others go first.
    ORDER = "order"


PRECEDENCE: Final[dict[Code, int]] = {code: place for place, code in enumerate(Code)}
"""The smaller number is told where several reasons apply."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a job waits."""

    code: Code
    subject: str = ""
    """What it waits for: the name of the queue, tenant, group, singleton key or rate key, or the id of a job."""
    until: float | None = None
    """When the reason ends, in seconds since the epoch; None where that is not known."""
    since: float | None = None
    """Since when this has been the reason; None where that was not asked."""

    def sentence(self) -> str:
        """Return the reason in words."""
        return _SENTENCES[self.code](self.subject)


_SENTENCES: Final[dict[Code, Callable[[str], str]]] = {
    Code.HELD: lambda who: f"it is held{f' by {who}' if who else ''}; `jaas release` lets it go",
    Code.NOT_BEFORE: lambda _: "its start time has not come",
    Code.POISON_INPUT: lambda nodes: f"it failed on {nodes or 'several nodes'}, so it is not tried on more",
    Code.QUEUE_UNKNOWN: lambda name: f"there is no queue {name}; `jaas queue create {name}` makes it",
    Code.QUEUE_PAUSED: lambda name: f"the queue {name} is paused; `jaas queue resume {name}` lets its jobs start",
    Code.GROUP_UNKNOWN: lambda name: f"there is no group {name}: somebody has to make it",
    Code.GROUP_TOO_SMALL: lambda name: f"it wants more of the group {name} than the group has in all",
    Code.NO_NODE: lambda _: "no node could take it, even with nothing else running",
    Code.QUEUE_FULL: lambda name: f"the queue {name} has as many jobs in flight as it may",
    Code.TENANT_FULL: lambda name: f"the tenant {name} has as many jobs in flight as it may",
    Code.QUOTA: lambda name: f"the tenant {name} uses its quota and may not borrow",
    Code.GROUP_FULL: lambda name: f"the group {name} has no place left",
    Code.SINGLETON: lambda key: f"another job with the singleton key {key} is active",
    Code.RATE: lambda key: f"the rate limit of {key} lets the next job start later",
    Code.QUOTA_KEPT: lambda name: f"the free room is kept for the tenant {name}, which does not lend its quota",
    Code.RESERVED: lambda job: f"the room that is free is kept for the larger job {job}, which came first",
    Code.CAPACITY: lambda _: "no node has room for it now",
    Code.ORDER: lambda _: "other jobs go first",
}
