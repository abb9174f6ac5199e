"""Small snapshots for tests of `jaas_submit.queues`, and the decisions once more in the plainest form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from jaas_submit.queues.admission import Admissions, admit
from jaas_submit.queues.book import Book, limit_on, within_quota
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.reasons import Reason
from jaas_submit.queues.rules import GroupRules, QueueRules, Rules, TenantRules
from jaas_submit.queues.snapshot import Line, LineKey, Nodes, Snapshot, Waiting

__all__ = ["ANY", "demand", "forms", "lines_of", "nodes", "plainly", "rules", "snapshots", "started", "whole"]

ANY = "any"
"""The class of all nodes."""


def demand(cpus: float = 1.0, memory: int = 0, **more: Any) -> Demand:
    """Return what a job asks for; it fits on any node."""
    return Demand.of(cpus=cpus, memory=memory, **{"nodes": ANY, "kind": "app", **more})


def nodes(count: int = 1, cpus: float = 4.0, memory: float = 2.0**40, free: Sequence[float] | None = None) -> Nodes:
    """Return nodes that are alike; ``free`` has the free cores of each."""
    return Nodes(
        ids=[f"n{place}" for place in range(count)],
        cpus=[cpus] * count,
        memory=[memory] * count,
        free_cpus=list(free) if free is not None else [cpus] * count,
        free_memory=[memory] * count,
        jobs=[0] * count,
        classes={ANY: range(count)},
    )


def rules(**more: Any) -> Rules:
    """Return rules with the queue q."""
    return Rules(**{"queues": {"q": QueueRules()}, "look_ahead": 0, **more})


def lines_of(jobs: Iterable[tuple[LineKey, float, str]], blocked: Mapping[LineKey, Reason] | None = None) -> list[Line]:
    """Return jobs as lines: each is a line's key, the time of submission and an id."""
    found: dict[LineKey, list[Waiting]] = {}
    for key, since, job_id in jobs:
        found.setdefault(key, []).append(Waiting(since, job_id))
    return [Line(key, sorted(waiting), len(waiting), (blocked or {}).get(key)) for key, waiting in found.items()]


def whole(some_rules: Rules, jobs: Iterable[tuple[LineKey, float, str]], some_nodes: Nodes, **more: Any) -> Snapshot:
    """Return a snapshot with all jobs."""
    return Snapshot(some_rules, lines_of(jobs), more.pop("book", None) or Book(), some_nodes, **more)


def started(snapshot: Snapshot, now: float = 1000.0, limit: int = 100) -> list[str]:
    """Return the ids of the jobs that are admitted, in order."""
    return [one.job_id for one in admit(snapshot, now, limit).admitted]


def forms(found: Admissions) -> list[tuple[str, str, tuple[str, ...], bool]]:
    """Return what is to be applied, in a form that tests compare."""
    return [(one.job_id, one.rule, one.avoid, one.ahead) for one in found.admitted]


def plainly(snapshot: Snapshot, now: float, limit: int) -> list[str]:
    """Return what ``admit`` has to admit if there is room for all: each job compared with each other, every time."""
    said, book = snapshot.rules, snapshot.book.copy()
    jobs = [(line.key, job) for line in snapshot.lines for job in line.jobs]
    cluster = sum(snapshot.nodes.cpus), sum(snapshot.nodes.memory)
    chosen: list[str] = []
    oldest_of = {key: min(job for other, job in jobs if other[:3] == key[:3]) for key, _ in jobs}

    def rank(pair: tuple[LineKey, Waiting]) -> tuple[Any, ...]:
        key, job = pair
        queue, tenant = said.queues[key.queue], said.tenants.get(key.tenant, TenantRules())
        of_queue, of_tenant = book.queues.get(key.queue), book.tenants.get(key.tenant)
        borrows = not tenant.has_quota or (of_tenant is not None and not within_quota(tenant, of_tenant, Demand()))
        return (
            -queue.priority,
            of_queue.part(now, said.half_life, *cluster) / queue.weight if of_queue else 0.0,
            key.queue,
            -key.priority,
            borrows,
            of_tenant.part(now, said.half_life, *cluster) / tenant.weight if of_tenant else 0.0,
            oldest_of[key],
            job,
        )

    while len(chosen) < limit:
        open_jobs = [
            pair for pair in jobs if limit_on(book, said, pair[0].queue, pair[0].tenant, pair[0].demand, now) is None
        ]
        if not open_jobs:
            break
        old = [
            (key, job)
            for key, job in open_jobs
            if said.queues[key.queue].age_after and now - job.since >= said.queues[key.queue].age_after
        ]
        by_age = book.owes_age and bool(old)
        pair = min(old, key=lambda one: one[1]) if by_age else min(open_jobs, key=rank)
        jobs.remove(pair)
        book.hold(said, pair[0].queue, pair[0].tenant, pair[0].demand, pair[1].id, now, by_age=by_age)
        chosen.append(pair[1].id)
    return chosen


_QUEUES = st.builds(
    QueueRules,
    priority=st.integers(0, 2),
    weight=st.sampled_from([1.0, 2.0, 3.0]),
    max_in_flight=st.sampled_from([None, None, 0, 3]),
    paused=st.sampled_from([False, False, False, True]),
    age_after=st.sampled_from([0.0, 500.0, 3600.0]),
)
_TENANTS = st.builds(
    TenantRules,
    weight=st.sampled_from([1.0, 2.0, 3.0]),
    max_in_flight=st.sampled_from([None, None, 2]),
    quota_cpus=st.sampled_from([None, None, 2.0]),
    borrow=st.booleans(),
    lend=st.booleans(),
)
_DEMANDS = st.builds(
    demand,
    cpus=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    groups=st.sampled_from([None, None, {"db": 1}, {"db": 2}, {"db": 1, "disk": 1}, {"none": 1}]),
    rates=st.sampled_from([None, None, {"example.com": "10/s"}, {"example.com": "1/s", "a": "100/min"}]),
    singleton=st.sampled_from([None, None, None, "one"]),
)
_KEYS = st.builds(
    LineKey,
    queue=st.sampled_from(["q0", "q1", "q2"]),
    tenant=st.sampled_from(["a", "b", "c"]),
    priority=st.sampled_from([0, 7, 255]),
    demand=_DEMANDS,
)
_SAID = st.builds(
    Rules,
    queues=st.fixed_dictionaries({"q0": _QUEUES, "q1": _QUEUES, "q2": _QUEUES}),
    tenants=st.fixed_dictionaries({"a": _TENANTS, "b": _TENANTS}),
    groups=st.just({"db": GroupRules(3), "disk": GroupRules(1)}),
    age_share=st.sampled_from([0.05, 0.5]),
    look_ahead=st.integers(0, 2),
    reserve_after=st.just(0.0),
    jobs_per_node=st.sampled_from([None, 2]),
)


@st.composite
def snapshots(draw: st.DrawFn, *, much_room: bool = False) -> Snapshot:
    """Draw a snapshot of up to 40 jobs on up to four nodes.

    Args:
        draw: hypothesis' own.
        much_room: whether all jobs fit, and no tenant keeps its quota for itself.
    """
    said = draw(_SAID)
    keys = draw(st.lists(_KEYS, min_size=1, max_size=8))
    picks = draw(st.lists(st.tuples(st.sampled_from(keys), st.integers(0, 1000)), max_size=40))
    jobs = [(key, float(since), f"j{number:02}") for number, (key, since) in enumerate(picks)]
    if much_room:
        for tenant in said.tenants.values():
            object.__setattr__(tenant, "lend", True)
        object.__setattr__(said, "jobs_per_node", None)
        return whole(said, jobs, nodes(1, cpus=1000.0))
    free = draw(st.lists(st.sampled_from([0.0, 1.0, 2.5, 4.0]), min_size=1, max_size=4))
    return whole(said, jobs, nodes(len(free), free=free))
