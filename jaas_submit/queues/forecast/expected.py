"""PURE: when waiting jobs will start: their place, the rule by which others go first, what holds them, p50 and p90.

The decisions themselves run ahead on a model of the cluster, several times, each time with run times drawn from those
that were measured. Jobs that will be submitted later are not known: earlier promises tell how much that matters, and
correct the next ones (``History.corrected``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Final

from jaas_submit.queues.admission import admit, why_waits
from jaas_submit.queues.book import within_quota
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.forecast.history import History
from jaas_submit.queues.forecast.model_cluster import ModelCluster
from jaas_submit.queues.reasons import Code, Reason
from jaas_submit.queues.rules import QueueRules, TenantRules
from jaas_submit.queues.snapshot import Line, LineKey, Snapshot

__all__ = ["Asked", "Expectation", "Precedence", "expected", "expected_end"]

RUNS: Final = 20
"""How often the model runs."""

_MANY_LINES: Final = 200
"""With more lines the model decides less often, and runs less often: the more jobs, the less does chance matter."""

_FEWER_RUNS: Final = 5
_STEPS: Final = 20
"""Decisions of the model in the median run time of a job, if there are many lines."""

_MOST_STARTS: Final = 500
"""Starts of one run, besides those that happen at once. What comes later is reckoned from how fast the job's line has
moved until then."""

_PLAIN_QUEUE: Final = QueueRules()
_PLAIN: Final = TenantRules()
_NOTHING: Final = Demand()


class Precedence(StrEnum):
    """By which rule other jobs go before this one; the first that tells them apart."""

    NONE = "none"
    """None does: it is the next one, or in no line."""
    QUEUE_PRIORITY = "queue_priority"
    """Their queue has a higher priority."""
    QUEUE_SHARE = "queue_share"
    """Their queue uses less of the cluster for its weight."""
    PRIORITY = "priority"
    """They have a higher priority in the same queue."""
    TENANT_QUOTA = "tenant_quota"
    """Their tenant is within its quota, and this one's is not."""
    TENANT_SHARE = "tenant_share"
    """Their tenant uses less for its weight."""
    SUBMITTED = "submitted"
    """They were submitted before."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A waiting job that somebody asks about."""

    id: str
    key: LineKey
    index: int
    """How many jobs of its line are before it."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of a waiting job. Times are in seconds since the epoch."""

    id: str
    place: int | None
    """1 for the next job to start, by the median of the runs; None where it never started in the model."""
    rule: Precedence
    """Why the others go first."""
    limit: Reason | None
    """What holds it now, besides the others."""
    start_p50: float | None
    """It starts until then in half of all cases; None where nothing that is known lets it start."""
    start_p90: float | None
    end_p50: float | None
    """It has ended until then in half of all cases."""
    end_p90: float | None
    measured: bool
    """Whether run times of its kind were measured; else a minute is assumed."""
    model_p50: float | None
    """Seconds to its start as the model says, for ``Promise``."""
    model_p90: float | None


def expected(
    snapshot: Snapshot, history: History, now: float, asked: Sequence[Asked], *, seed: int = 0, runs: int | None = None
) -> list[Expectation]:
    """Return what is expected of some waiting jobs, in their order.

    Args:
        snapshot: with the lines of these jobs.
        history: what was measured.
        now: the time of the snapshot.
        asked: the jobs.
        seed: of chance; the same seed gives the same answer.
        runs: how often the model runs; None for 20 times, and 5 with more than 200 lines.
    """
    known = _with_run_times(snapshot, history)
    chances = [Random(f"{seed} {number}") for number in range(runs or _runs(snapshot))]  # noqa: S311 - no secret
    outcomes = [_run(known, history, now, asked, chance) for chance in chances]
    reasons = admit(known, now).reasons
    return [
        _expectation(known, history, now, one, [run[number] for run in outcomes], reasons.get(one.key))
        for number, one in enumerate(asked)
    ]


def expected_end(
    snapshot: Snapshot, history: History, now: float, asked: Sequence[Asked], *, seed: int = 0, runs: int | None = None
) -> tuple[float, float] | None:
    """Return until when all of some waiting jobs will have ended, such as those of a batch: p50 and p90.

    Args:
        snapshot: with the lines of these jobs.
        history: what was measured.
        now: the time of the snapshot.
        asked: the jobs; of each line the last one is enough.
        seed: as for ``expected``.
        runs: as for ``expected``.

    Returns:
        Both times, in seconds since the epoch; None where nothing that is known lets one of them start.
    """
    known = _with_run_times(snapshot, history)
    chances = [Random(f"{seed} {number}") for number in range(runs or _runs(snapshot))]  # noqa: S311 - no secret
    ends = sorted(
        max((outcome.end for outcome in _run(known, history, now, asked, chance)), default=now) for chance in chances
    )
    p50, p90 = _at(ends, 0.5), _at(ends, 0.9)
    if math.isinf(p90):
        return None
    queue = asked[0].key.queue if asked else ""
    waits = history.corrected(queue, p50 - now, p90 - now)
    return now + waits[0], now + waits[1]


def _with_run_times(snapshot: Snapshot, history: History) -> Snapshot:
    p90 = {line.key.demand.kind: history.quantile(line.key.demand.kind, 0.9) for line in snapshot.lines}
    return replace(snapshot, run_times={**p90, **snapshot.run_times})


def _runs(snapshot: Snapshot) -> int:
    return RUNS if len(snapshot.lines) <= _MANY_LINES else _FEWER_RUNS


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one run of the model says of a job; infinite times where it does not start."""

    place: float
    start: float
    end: float


def _run(snapshot: Snapshot, history: History, now: float, asked: Sequence[Asked], random: Random) -> list[_Outcome]:
    many = len(snapshot.lines) > _MANY_LINES
    halves = sorted(history.quantile(line.key.demand.kind, 0.5) for line in snapshot.lines) if many else [0.0]
    model = ModelCluster(
        snapshot,
        now,
        lambda _, key, already: history.draw(key.demand.kind, already, random),
        step=halves[len(halves) // 2] / _STEPS,
    )
    wanted = {(one.key, one.index) for one in asked}
    moved: dict[LineKey, int] = {}
    found: dict[tuple[LineKey, int], tuple[int, float, float]] = {}
    seen = at_once = 0

    def is_over() -> bool:
        nonlocal seen, at_once
        for number in range(seen, len(model.starts)):
            start = model.starts[number]
            # Jobs of a line are alike: the n-th start is the n-th job, whatever it is called.
            index = moved.get(start.key, 0)
            moved[start.key] = index + 1
            if (start.key, index) in wanted:
                found[start.key, index] = number + 1, start.at, start.at + start.run
        seen = len(model.starts)
        at_once = seen if model.now <= now else at_once
        return len(found) == len(wanted) or seen - at_once >= _MOST_STARTS

    model.run(stop=is_over)
    outcomes = []
    for one in asked:
        outcome = found.get((one.key, one.index))
        if outcome is None:
            place = _place_beyond(snapshot, one, moved.get(one.key, 0), seen, now)
            later = seen - at_once
            start = (place - at_once) / later * (model.now - now) if later >= _MOST_STARTS else math.inf
            place = place if later >= _MOST_STARTS else math.inf
            outcome_end = now + start + history.draw(one.key.demand.kind, 0.0, random)
            outcomes.append(_Outcome(place, now + start, outcome_end))
        else:
            outcomes.append(_Outcome(*outcome))
    return outcomes


def _place_beyond(snapshot: Snapshot, one: Asked, moved: int, starts: int, now: float) -> float:
    """Return the place of a job that comes after the end of a run.

    It follows from how far its line moved, or if that did not, from how many jobs go before.
    """
    return starts * (one.index + 1) / moved if moved else _jobs_before(snapshot, one, now) + 1


def _jobs_before(snapshot: Snapshot, one: Asked, now: float) -> float:
    """Return about how many jobs go before one, by the priorities of queues and jobs; equal lines take turns."""
    queues, before = snapshot.rules.queues, 0
    own_line = next((line for line in snapshot.lines if line.key == one.key), None)
    if own_line is None or why_waits(snapshot, own_line, now) is not None:
        return math.inf
    own = queues.get(one.key.queue, _PLAIN_QUEUE).priority, one.key.priority
    for line in snapshot.lines:
        other = queues.get(line.key.queue, _PLAIN_QUEUE).priority, line.key.priority
        if other >= own and why_waits(snapshot, line, now) is None:
            before += line.size if other > own else min(line.size, one.index + 1)
    return float(before)


def _expectation(
    snapshot: Snapshot, history: History, now: float, one: Asked, outcomes: Sequence[_Outcome], reason: Reason | None
) -> Expectation:
    starts = sorted(outcome.start for outcome in outcomes)
    runs = sorted(outcome.end - outcome.start for outcome in outcomes if not math.isinf(outcome.start))
    places = sorted(outcome.place for outcome in outcomes)
    place = places[len(places) // 2]
    model_p50, model_p90 = _at(starts, 0.5), _at(starts, 0.9)
    if math.isinf(model_p90):
        times: tuple[float | None, ...] = (None, None, None, None, None, None)
    else:
        waits = model_p50 - now, model_p90 - now
        p50, p90 = history.corrected(one.key.queue, *waits)
        run_p50, run_p90 = _at(runs, 0.5), _at(runs, 0.9)
        times = now + p50, now + p90, now + p50 + run_p50, now + max(p90 + run_p50, p50 + run_p90), *waits
    line = next((line for line in snapshot.lines if line.key == one.key), None)
    limit = (why_waits(snapshot, line, now) if line is not None else None) or reason
    return Expectation(
        one.id,
        None if math.isinf(place) else max(round(place), 1),
        _precedence(snapshot, one, now),
        None if limit is not None and limit.code is Code.ORDER else limit,
        times[0],
        times[1],
        times[2],
        times[3],
        bool(history.samples(one.key.demand.kind)),
        times[4],
        times[5],
    )


def _at(ordered: Sequence[float], part: float) -> float:
    return ordered[min(math.ceil(part * len(ordered)), len(ordered)) - 1]


def _precedence(snapshot: Snapshot, one: Asked, now: float) -> Precedence:
    """Return the first rule by which some job that could start goes before this one."""
    found = Precedence.NONE
    for line in snapshot.lines:
        if line.key != one.key and line.jobs and why_waits(snapshot, line, now) is None:
            rule = _before(snapshot, line, one, now)
            if rule is not None and (found is Precedence.NONE or _RANK[rule] < _RANK[found]):
                found = rule
    if found is Precedence.NONE and one.index:
        return Precedence.SUBMITTED
    return found


def _before(snapshot: Snapshot, line: Line, one: Asked, now: float) -> Precedence | None:
    """Return the rule by which a line goes before a job; None if it does not."""
    mine, theirs = _ranks(snapshot, one.key, now), _ranks(snapshot, line.key, now)
    for rule, (own, other) in zip(_RULES, zip(mine, theirs, strict=True), strict=True):
        if other != own:
            return rule if other < own else None
    own_line = next((each for each in snapshot.lines if each.key == one.key), None)
    if own_line is None or one.index >= len(own_line.jobs) or line.jobs[0] < own_line.jobs[one.index]:
        return Precedence.SUBMITTED
    return None


_RULES: Final = (
    Precedence.QUEUE_PRIORITY,
    Precedence.QUEUE_SHARE,
    Precedence.PRIORITY,
    Precedence.TENANT_QUOTA,
    Precedence.TENANT_SHARE,
)
_RANK: Final = {rule: number for number, rule in enumerate(Precedence)}


def _ranks(snapshot: Snapshot, key: LineKey, now: float) -> tuple[float, float, float, float, float]:
    """Return what the order compares, the smaller first."""
    rules, book, nodes = snapshot.rules, snapshot.book, snapshot.nodes
    queue, tenant = rules.queues.get(key.queue, _PLAIN_QUEUE), rules.tenants.get(key.tenant, _PLAIN)
    cluster = sum(nodes.cpus), sum(nodes.memory)
    of_queue, of_tenant = book.queues.get(key.queue), book.tenants.get(key.tenant)
    return (
        -queue.priority,
        of_queue.part(now, rules.half_life, *cluster) / queue.weight if of_queue else 0.0,
        -key.priority,
        0.0 if tenant.has_quota and within_quota(tenant, of_tenant, _NOTHING) else 1.0,
        of_tenant.part(now, rules.half_life, *cluster) / tenant.weight if of_tenant else 0.0,
    )
