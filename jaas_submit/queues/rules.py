"""PURE: what an operator says of queues, tenants and groups, and of sharing as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from jaas_submit.errors import SpecError
from jaas_submit.queues.reasons import Code

__all__ = ["HIGHEST_PRIORITY", "GroupRules", "QueueRules", "Rules", "TenantRules"]

HIGHEST_PRIORITY: Final = 255
"""The highest priority of a job in its queue, and of a queue; 0 is the lowest."""

HIGHEST_COUNT: Final = 1_000_000_000
"""The highest limit of a count. Redis' scripts write numbers of more than 14 digits as fractions."""

LIMITED: Final = frozenset(Code) - {Code.POISON_INPUT}
"""The reasons for which a queue may limit the waiting time."""


def _check(holds: bool, name: str, fix: str) -> None:
    if not holds:
        raise SpecError(f"{name}: {fix}", field=name)


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= least


def _check_count(value: int | None, name: str) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HIGHEST_COUNT
    fix = f"must be a whole number between 0 and {HIGHEST_COUNT:,}; leave it out for no limit"
    _check(value is None or whole, name, fix)


def _check_weight(value: float) -> None:
    _check(_is_number(value, 0) and value > 0, "weight", "must be a number greater than 0, such as 1 or 2.5")


@dataclass(frozen=True, slots=True)
class QueueRules:
    """How jobs of one queue are started.

    Raises:
        SpecError: a value is wrong; the text names the field and the fix.
    """

    priority: int = 0
    """0 to 255. A queue with a higher one goes first, whatever the others wait for (but see ``age_after``)."""
    weight: float = 1.0
    """Its share among queues of the same priority, in relation to their weights."""
    max_in_flight: int | None = None
    """How many of its jobs may be in flight; None for no limit, 0 starts none."""
    paused: bool = False
    """Whether nothing of it is started. What runs goes on."""
    draining: bool = False
    """Whether it takes no new jobs. What waits is started, and what runs goes on."""
    age_after: float = 3600.0
    """Seconds after which a waiting job counts as old: one in twenty starts goes to the oldest of all old jobs,
    whatever its priority (``Rules.age_share``). 0: no job of this queue counts as old."""
    wait_limits: Mapping[Code, float] = field(default_factory=dict)
    """For each reason, how many seconds a job may wait for it before it is given up."""

    def __post_init__(self) -> None:
        whole = isinstance(self.priority, int) and not isinstance(self.priority, bool)
        _check(whole and 0 <= self.priority <= HIGHEST_PRIORITY, "priority", "must be a whole number between 0 and 255")
        _check_weight(self.weight)
        _check_count(self.max_in_flight, "max_in_flight")
        _check(_is_number(self.age_after, 0), "age_after", "must be seconds, 0 or more")
        for code, seconds in self.wait_limits.items():
            known = ", ".join(sorted(LIMITED))
            _check(code in LIMITED, "wait_limits", f"knows these reasons: {known}")
            _check(_is_number(seconds, 0) and seconds > 0, "wait_limits", f"{code} must be seconds, more than 0")


@dataclass(frozen=True, slots=True)
class TenantRules:
    """What one tenant gets.

    Raises:
        SpecError: a value is wrong; the text names the field and the fix.
    """

    weight: float = 1.0
    """Its share of what the tenants of a queue use, in relation to their weights."""
    max_in_flight: int | None = None
    """How many of its jobs may be in flight, in all queues; None for no limit."""
    quota_cpus: float | None = None
    """Cores that are its own: while it holds less, its jobs go before those of tenants that borrow. None: no quota."""
    quota_memory: int | None = None
    """The same in bytes of memory."""
    borrow: bool = True
    """Whether it may use more than its quota while there is room."""
    lend: bool = True
    """Whether others may use what it leaves free of its quota, until it needs that again: the next room is its own
    then, but nobody's running job is stopped. False: that room stays free."""

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        _check_count(self.max_in_flight, "max_in_flight")
        for name, value in (("quota_cpus", self.quota_cpus), ("quota_memory", self.quota_memory)):
            _check(value is None or _is_number(value, 0), name, "must be a number of 0 or more; leave it out for none")

    @property
    def has_quota(self) -> bool:
        """Whether it has a quota of anything."""
        return self.quota_cpus is not None or self.quota_memory is not None


@dataclass(frozen=True, slots=True)
class GroupRules:
    """A concurrency group, such as a database that bears ten jobs, or a licence.

    Raises:
        SpecError: a value is wrong; the text names the field and the fix.
    """

    capacity: int
    """How much of it there is. Each job in flight holds its weight of that (``groups={"db": 1}``)."""

    def __post_init__(self) -> None:
        whole = isinstance(self.capacity, int) and not isinstance(self.capacity, bool)
        _check(whole and self.capacity >= 0, "capacity", "must be a whole number of 0 or more")


@dataclass(frozen=True, slots=True)
class Rules:
    """All that an operator has said.

    Raises:
        SpecError: a value is wrong; the text names the field and the fix.
    """

    queues: Mapping[str, QueueRules] = field(default_factory=dict)
    """Name -> rules. A job of any other queue is not started."""
    tenants: Mapping[str, TenantRules] = field(default_factory=dict)
    """Name -> rules. Any other tenant has weight 1 and no limits."""
    groups: Mapping[str, GroupRules] = field(default_factory=dict)
    """Name -> rules. A job that names any other group is not started."""
    half_life: float = 600.0
    """Seconds after which what a tenant used counts half."""
    age_share: float = 0.05
    """The part of all starts that goes to old jobs while there are any (``QueueRules.age_after``)."""
    look_ahead: int = 0
    """How many jobs may be with the swarm without room for them, for each class of nodes: they start as soon as another
    job ends, without waiting for a worker. But a job that is submitted later goes after them, whatever its priority: 0
    keeps the order exact."""
    jobs_per_node: int | None = None
    """How many jobs may be on a node, whatever they reserve; None for no limit."""
    reserve_after: float = 30.0
    """Seconds without room after which a job gets a reservation: a node is kept for it."""
    reservations: int = 4
    """How many nodes may be kept at once."""
    drain_after: float = 600.0
    """Seconds after which a kept node takes no other job at all, however short that is."""

    def __post_init__(self) -> None:
        _check(_is_number(self.half_life, 0) and self.half_life > 0, "half_life", "must be seconds, more than 0")
        _check(
            _is_number(self.age_share, 0) and self.age_share < 1, "age_share", "must be between 0 and 1, such as 0.05"
        )
        for name, count in (("look_ahead", self.look_ahead), ("reservations", self.reservations)):
            _check(count is not None, name, "must be a whole number of 0 or more")
            _check_count(count, name)
        _check_count(self.jobs_per_node, "jobs_per_node")
        for name, value in (("reserve_after", self.reserve_after), ("drain_after", self.drain_after)):
            _check(_is_number(value, 0), name, "must be seconds, 0 or more")
