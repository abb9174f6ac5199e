"""PURE: nodes on which jobs of many kinds fail, and inputs that fail on many nodes.

The swarm weighs failures per service, and each attempt is a new service: only the ledger sees both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from jaas_submit.model.causes import CAUSES, Cause
from jaas_submit.queues.reasons import Code, Reason

__all__ = ["AttemptEnd", "LeftOut", "nodes_left_out", "poison_input"]

WINDOW_S: Final = 600.0
"""Seconds for which an attempt's end counts against a node."""
LEAST_FAILURES: Final = 5
"""So many jobs at least must have failed on a node."""
LEAST_KINDS: Final = 3
"""Of so many kinds at least: one bad image is not the node's fault."""
FAILED_SHARE: Final = 0.8
"""So large a part of what ended on the node must have failed."""
LEFT_OUT_S: Final = 600.0
"""Seconds after the last failure until a node is tried again."""
MOST_NODES: Final = 0.25
"""No more than this part of all nodes is left out, and one at least: where all fail, it is not the nodes."""
NODES_OF_AN_INPUT: Final = 3
"""A job that failed on so many nodes is not tried on more."""


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How one attempt ended."""

    at: float
    """When, in seconds since the epoch."""
    node: str
    """The node's id."""
    job_id: str
    kind: str
    """The job's kind (``Demand.kind``)."""
    failed: bool
    cause: Cause | None = None
    """Why it failed; None where that is not known."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A node that takes no job for now."""

    node: str
    until: float
    """When it is tried again, in seconds since the epoch. If jobs fail there again, it is left out again."""
    why: str
    """In words."""


def nodes_left_out(ends: Iterable[AttemptEnd], nodes: int, now: float) -> list[LeftOut]:
    """Return the nodes that should take no job for now, the worst first.

    A node is left out when jobs of several kinds failed there and hardly any succeeded, while jobs of at least one of
    these kinds succeeded elsewhere. A node that was left out has no new ends, so it comes back ``LEFT_OUT_S`` after its
    last failure; a single failure then leaves it out again, as long as the others are in the window.

    Args:
        ends: of the last minutes, in any order.
        nodes: how many nodes there are.
        now: the time.
    """
    by_node: dict[str, list[AttemptEnd]] = defaultdict(list)
    succeeded: dict[str, set[str]] = defaultdict(set)
    for end in ends:
        if now - end.at <= WINDOW_S + LEFT_OUT_S:
            by_node[end.node].append(end)
            if not end.failed:
                succeeded[end.kind].add(end.node)
    found = []
    for node, its in by_node.items():
        failed = [end for end in its if end.failed]
        kinds = {end.kind for end in failed}
        jobs = {end.job_id for end in failed}
        last = max((end.at for end in failed), default=0.0)
        elsewhere = any(succeeded[kind] - {node} for kind in kinds)
        many = len(jobs) >= LEAST_FAILURES and len(kinds) >= LEAST_KINDS
        if many and elsewhere and len(failed) >= FAILED_SHARE * len(its) and now < last + LEFT_OUT_S:
            why = f"{len(jobs)} jobs of {len(kinds)} kinds failed there, {len(its) - len(failed)} succeeded"
            found.append((len(jobs), LeftOut(node, last + LEFT_OUT_S, why)))
    found.sort(key=lambda pair: (-pair[0], pair[1].node))
    return [left for _, left in found[: max(1, int(nodes * MOST_NODES))]]


def poison_input(ends: Sequence[AttemptEnd]) -> Reason | None:
    """Return why a job is not tried again; None if it may be.

    Args:
        ends: its own attempts. Those that failed by a fault of the cluster do not count.
    """
    nodes = {
        end.node
        for end in ends
        if end.failed and end.node and not (end.cause is not None and CAUSES[end.cause].by_cluster)
    }
    if len(nodes) < NODES_OF_AN_INPUT:
        return None
    return Reason(Code.POISON_INPUT, f"{len(nodes)} nodes")
