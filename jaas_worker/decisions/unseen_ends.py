"""PURE: the outcomes of attempts whose end no task shows: refused, gone with its service, or lost with its node."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from jaas_submit.model.causes import Cause, facts_of
from jaas_submit.model.records import Outcome
from jaas_submit.model.states import JobState
from jaas_worker.decisions.task_outcome import StopRequest
from jaas_worker.swarm.engine import TaskView

__all__ = ["first_of_node", "gone_outcome", "lost_outcome", "refused_outcome"]


def gone_outcome(stop: StopRequest | None, node: str | None = None, started_at: datetime | None = None) -> Outcome:
    """Return the outcome of an attempt whose service disappeared before its end was seen."""
    cause = stop.cause if stop else Cause.REMOVED_OUTSIDE
    return Outcome(
        state=facts_of(cause).state,
        cause=cause,
        reason=stop.reason if stop else "somebody else removed the service before its end was recorded",
        node=node,
        started_at=started_at,
        finished_at=datetime.now(UTC),
    )


def lost_outcome(task: TaskView, node: str | None, started_at: datetime | None, lost_for: float) -> Outcome:
    """Return the outcome of an attempt whose node is down, when its policy no longer waits for the node.

    Args:
        task: its task, as last reported.
        node: host name of the node.
        started_at: when the container was first seen running.
        lost_for: seconds since the node was seen to be down.
    """
    return Outcome(
        state=JobState.FAILED,
        cause=Cause.NODE_LOST,
        reason=f"its node has been down for {lost_for:.0f} s; the container may still run there",
        node=node,
        node_id=task.node_id or None,
        task_id=task.id,
        container_id=task.container_id,
        started_at=started_at,
        finished_at=datetime.now(UTC),
    )


def refused_outcome(cause: Cause, reason: str) -> Outcome:
    """Return the outcome of a job for which no container was created."""
    return Outcome(state=facts_of(cause).state, cause=cause, reason=reason, finished_at=datetime.now(UTC))


def first_of_node(judged: Sequence[Outcome]) -> Outcome:
    """Return the outcome that tells of the node, if there is one, else the last.

    Args:
        judged: one attempt's outcome by each change of its node that was seen; one at least.
    """
    return next((one for one in judged if one.cause in {Cause.ENGINE, Cause.NODE_LOST}), judged[-1])
