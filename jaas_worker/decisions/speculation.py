"""PURE: which slow jobs of a batch are started a second time, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from jaas_submit.model.cluster import Cluster
from jaas_submit.model.job_spec import JobSpec
from jaas_submit.model.records import BatchRecord, JobRecord
from jaas_submit.model.retry_policy import RetryPolicy
from jaas_submit.model.states import JobState
from jaas_submit.placement.placement import placement

__all__ = ["copy_spec", "slow_jobs"]


def slow_jobs(
    batch: BatchRecord, running: Mapping[str, float], durations: Sequence[float], copies: int, active: int
) -> list[str]:
    """Return the ids of the jobs that are to be started a second time now, the slowest first.

    Args:
        batch: the batch, as it stands.
        running: run time in seconds of each running job without a copy.
        durations: run times in seconds of the jobs that succeeded, or of a sample.
        copies: how many of its jobs run twice already.
        active: how many of its jobs count towards ``max_parallel`` now, copies included.
    """
    plan = batch.speculate
    if plan is None or batch.done or batch.cancelled or not batch.total or not durations:
        return []
    # Jobs that have not been started come first: a copy would take their place.
    if (
        batch.ended < plan.after * batch.total
        or batch.counts.get(JobState.WAITING)
        or batch.counts.get(JobState.QUEUED)
    ):
        return []
    room = max(math.floor(plan.most * batch.total), 1) - copies
    if batch.max_parallel:
        room = min(room, batch.max_parallel - active)
    limit = max(plan.factor * median(durations), plan.least)
    slow = sorted((job_id for job_id, ran in running.items() if ran > limit), key=lambda one: (-running[one], one))
    return slow[: max(room, 0)]


def copy_spec(record: JobRecord, cluster: Cluster | None, age: float) -> JobSpec | None:
    """Return the description of a job's copy: one attempt, in the rest of its time, on another node if one fits.

    Args:
        record: the slow job.
        cluster: the swarm's nodes; None if unknown.
        age: seconds since the job was submitted.

    Returns:
        None when there is nothing to copy, or no time left for it.
    """
    spec = record.spec
    if spec is None or not spec.idempotent:
        return None
    changes: dict[str, object] = {"retry": RetryPolicy(), "expires": None, "on_node_lost": "fail", "lost_after": None}
    if spec.deadline is not None:
        if age >= spec.deadline:
            return None
        changes["deadline"] = spec.deadline - age
    elsewhere = (*spec.constraints, f"node.hostname!={record.node}")
    if record.node and cluster is not None:
        moved = spec.model_copy(update={"constraints": elsewhere})
        if any(fit.fits for fit in placement(moved, cluster)):
            changes["constraints"] = elsewhere
    return spec.model_copy(update=changes)
