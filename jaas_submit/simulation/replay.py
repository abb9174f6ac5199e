"""PURE: a trace, replayed on a model cluster: how long jobs wait, who gets which share, and what comes too late."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaas_submit.errors import SpecError
from jaas_submit.model.bounds import shown
from jaas_submit.queues.book import Book
from jaas_submit.queues.forecast.history import History
from jaas_submit.queues.forecast.model_cluster import Arrival, ModelCluster, Start
from jaas_submit.queues.rules import QueueRules, Rules
from jaas_submit.queues.snapshot import Nodes, Snapshot
from jaas_submit.simulation.changes import ModelNodes
from jaas_submit.simulation.trace import ALL_NODES, TracedJob

__all__ = ["Figures", "Replay", "replay"]


@dataclass(frozen=True, slots=True)
class Figures:
    """How some jobs of a trace fared. Times are in seconds."""

    jobs: int
    started: int
    wait_p50: float | None
    wait_p90: float | None
    wait_max: float | None
    share: float
    """Their part of all core seconds, each job with 0.1 core at least."""
    missed: int
    """Jobs with a deadline that ended after it, or never."""
    recorded_p50: float | None
    """What the trace says of their waits; None where it does not."""
    recorded_p90: float | None


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay shows."""

    groups: dict[str, Figures]
    """``all``, ``queue NAME`` and ``tenant NAME`` -> figures."""
    waits: dict[str, float]
    """Id of each job that started -> its wait."""
    end: float
    """When the last job ended, in seconds from the first submission."""
    used: float
    """Which part of all cores was in use until then."""


def replay(jobs: Sequence[TracedJob], rules: Rules, nodes: ModelNodes, *, start_delay: float = 0.0) -> Replay:
    """Return what the queues do with a trace.

    Args:
        jobs: in the order of submission.
        rules: queues that it does not name have the default rules.
        nodes: the cluster.
        start_delay: seconds from the decision to the running container.

    Raises:
        SpecError: a job names a group that the rules do not have.
    """
    queues = {job.key.queue: QueueRules() for job in jobs}
    rules = replace(rules, queues={**queues, **rules.queues})
    for job in jobs:
        for name, _ in job.key.demand.groups:
            if name not in rules.groups:
                raise SpecError(f"groups: no rule says how large {shown(name)} is; give its capacity", field="groups")
    first, run_of = jobs[0].submit, {job.id: job.run for job in jobs}
    model = ModelCluster(
        _empty(jobs, rules, nodes), first, lambda job_id, _, already: run_of[job_id] - already, start_delay=start_delay
    )
    model.run(Arrival(job.submit, job.id, job.key) for job in jobs)
    starts = {start.id: start for start in model.starts}
    return _told(jobs, starts, nodes, first)


def _empty(jobs: Sequence[TracedJob], rules: Rules, nodes: ModelNodes) -> Snapshot:
    """Return an empty cluster, with the run times that the trace's jobs have by their kinds."""
    times: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        times[job.key.demand.kind].append(job.run)
    history = History({kind: sorted(seconds) for kind, seconds in times.items()})
    return Snapshot(
        rules=rules,
        lines=[],
        book=Book(),
        nodes=Nodes(
            ids=[f"node{number}" for number in range(1, nodes.count + 1)],
            cpus=[nodes.cpus] * nodes.count,
            memory=[nodes.memory] * nodes.count,
            free_cpus=[nodes.cpus] * nodes.count,
            free_memory=[nodes.memory] * nodes.count,
            jobs=[0] * nodes.count,
            classes={ALL_NODES: range(nodes.count)},
        ),
        run_times={kind: history.quantile(kind, 0.9) for kind in times},
    )


def _told(jobs: Sequence[TracedJob], starts: dict[str, Start], nodes: ModelNodes, first: float) -> Replay:
    groups: dict[str, list[TracedJob]] = defaultdict(list)
    for job in jobs:
        for name in ("all", f"queue {job.key.queue}", f"tenant {job.key.tenant}" if job.key.tenant else ""):
            if name:
                groups[name].append(job)
    work = sum(_work(job) for job in jobs if job.id in starts)
    end = max((start.at + start.run for start in starts.values()), default=first) - first
    cores = sum(job.key.demand.cpus * job.run for job in jobs if job.id in starts)
    return Replay(
        groups={name: _figures(some, starts, work) for name, some in sorted(groups.items())},
        waits={job_id: start.wait for job_id, start in starts.items()},
        end=end,
        used=cores / (end * nodes.cpus * nodes.count) if end and nodes.cpus else 0.0,
    )


def _work(job: TracedJob) -> float:
    return max(job.key.demand.cpus, 0.1) * job.run


def _figures(jobs: Sequence[TracedJob], starts: dict[str, Start], work: float) -> Figures:
    waits = sorted(starts[job.id].wait for job in jobs if job.id in starts)
    recorded = sorted(job.start - job.submit for job in jobs if job.start is not None)
    missed = sum(
        job.deadline is not None
        and (job.id not in starts or starts[job.id].at + starts[job.id].run > job.submit + job.deadline)
        for job in jobs
    )
    return Figures(
        jobs=len(jobs),
        started=len(waits),
        wait_p50=_at(waits, 0.5),
        wait_p90=_at(waits, 0.9),
        wait_max=waits[-1] if waits else None,
        share=sum(_work(job) for job in jobs if job.id in starts) / work if work else 0.0,
        missed=missed,
        recorded_p50=_at(recorded, 0.5),
        recorded_p90=_at(recorded, 0.9),
    )


def _at(ordered: Sequence[float], part: float) -> float | None:
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)] if ordered else None
