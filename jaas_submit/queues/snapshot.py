"""PURE: what the decisions see: waiting jobs in lines, what is in flight, and the nodes.

A *line* is the waiting jobs of one queue, tenant and priority that ask for the same (``Demand``), in the order of their
submission. So whatever keeps the first one of a line back keeps all of them back, and the first few of each line are
enough to decide: ``first_of`` cuts a snapshot to them, and no decision changes.

Jobs that are held, or whose start time has not come, are in no line; see ``standing_reason``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from jaas_submit.queues.book import Book
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.reasons import Code, Reason
from jaas_submit.queues.rules import Rules

__all__ = [
    "InFlight",
    "Line",
    "LineKey",
    "Nodes",
    "Reservation",
    "Running",
    "Snapshot",
    "Waiting",
    "first_of",
    "standing_reason",
]


class Waiting(NamedTuple):
    """A waiting job in its line."""

    since: float
    """When it was submitted, in seconds since the epoch. A job that is tried again keeps its place."""
    id: str
    """Its id; the order of jobs that were submitted at the same time."""


class LineKey(NamedTuple):
    """What the jobs of a line have in common."""

    queue: str
    tenant: str
    priority: int
    """0 to 255."""
    demand: Demand


@dataclass(frozen=True, slots=True)
class Line:
    """Waiting jobs that differ in their age alone."""

    key: LineKey
    jobs: Sequence[Waiting]
    """The first ones, in order."""
    size: int
    """How many jobs the line has in all."""
    blocked: Reason | None = None
    """Why its first job was not started at the last look, with ``since``; None where that is not known."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A job that was admitted and that the swarm has put on no node yet."""

    id: str
    key: LineKey
    """The line that it came from."""
    since: float
    """When it was admitted."""
    avoid: tuple[str, ...] = ()
    """Ids of the nodes that its launch excluded."""


class Running(NamedTuple):
    """A job of ours on a node."""

    end: float
    """When it is expected to end, in seconds since the epoch; infinite where nothing is known."""
    id: str
    key: LineKey
    """The line that it came from."""
    started: float
    """When its container began to run."""


class Reservation(NamedTuple):
    """A node that is kept for a job."""

    job_id: str
    node: str
    """The node's id."""
    since: float
    """When it was made."""
    starts: float
    """When the job is expected to find room there."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes, in columns: the n-th entry of each belongs to the n-th node.

    What is free is what no service has reserved, ours or others'. Nodes that are down, drained or left out are in no
    class.
    """

    ids: Sequence[str] = ()
    cpus: Sequence[float] = ()
    """Cores in all."""
    memory: Sequence[float] = ()
    """Bytes in all."""
    free_cpus: Sequence[float] = ()
    free_memory: Sequence[float] = ()
    jobs: Sequence[int] = ()
    """Jobs of ours on each; read only with ``Rules.jobs_per_node``."""
    classes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Name of a class (``Demand.nodes``) -> places of the nodes that its constraints admit."""
    left_out: Sequence[str] = ()
    """Ids of nodes that take no job for now (see ``poison``); launches avoid them."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that ``admit`` and ``expected`` need to know, at one time."""

    rules: Rules
    lines: Sequence[Line]
    book: Book
    """What is in flight, by queue, tenant and limit. It is not changed."""
    nodes: Nodes = field(default_factory=Nodes)
    unplaced: Sequence[InFlight] = ()
    """Jobs in flight that have no node yet, in the order of their admission."""
    running: Mapping[int, Sequence[Running]] = field(default_factory=dict)
    """Place of a node -> our jobs there. Only reservations look at it."""
    run_times: Mapping[str, float] = field(default_factory=dict)
    """Kind of job -> seconds that nine in ten of them run at most. A kind that is missing may run for ever."""
    reservations: Sequence[Reservation] = ()
    """As the last look made them."""


def first_of(snapshot: Snapshot, count: int) -> Snapshot:
    """Return the snapshot with the first few jobs of each line only, as it is read from the ledger's indexes.

    Args:
        snapshot: any.
        count: how many. ``admit`` decides the same as long as it admits no more in one pass.
    """
    return replace(snapshot, lines=[replace(line, jobs=line.jobs[:count]) for line in snapshot.lines])


def standing_reason(*, held_by: str | None, not_before: float | None, now: float) -> Reason | None:
    """Return why a job is in no line; None if it belongs into one.

    Args:
        held_by: who has held it or its batch; None where nobody has.
        not_before: the time before which it does not start, in seconds since the epoch.
        now: the time.
    """
    if held_by is not None:
        return Reason(Code.HELD, held_by)
    if not_before is not None and not_before > now:
        return Reason(Code.NOT_BEFORE, until=not_before)
    return None
