"""Many jobs in flight: what each costs the worker, and whether the others still end as quickly.

A level is so many jobs pending (a constraint that no node meets). At each level the worker is watched while nothing
changes, and then a trickle of real jobs goes through it, one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Options, Row, Target, say
from benchmarks.home import client_of, home
from benchmarks.machine import engine_pids, usage
from benchmarks.plots import curve
from benchmarks.stats import percentile
from jaas_submit import Client, JobSpec
from jaas_submit.model.states import JobState
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation, WorkerProcess

__all__ = ["PART", "Level", "draw", "measure"]

_NOWHERE = ("node.labels.jaas-bench==nowhere",)
_QUIET = 60.0
"""Seconds for which a worker is watched while nothing changes: two rounds of its rarest duty."""

_LEVELS = (0, 1_000, 10_000)
_KB = 1024


@dataclass(frozen=True, slots=True)
class Level:
    """What was seen with so many jobs in flight."""

    in_flight: int
    memory: float
    """Bytes of the workers' memory, in sum."""
    threads: int
    """Of all workers."""
    worker_cpu: float
    """Cores that the workers use while nothing changes, in sum."""
    engine_cpu: float
    """Cores that the engine uses meanwhile."""
    redis_cpu: float
    """Cores that Redis uses meanwhile."""
    redis_commands: float
    """Redis' commands a second meanwhile; what scripts call counts."""
    latency: tuple[float, ...]
    """Seconds from a container's end to the return of ``wait()``, of each job of the trickle."""
    ramp: float
    """Jobs a second that became pending on the way to this level."""


def _spec(**fields: Any) -> JobSpec:
    return JobSpec(**{"image": TEST_IMAGE, "command": ["sh", "-c", "echo done"], **fields})


def _trickle(client: Client, count: int) -> tuple[float, ...]:
    """Run jobs one after the other; return the seconds from each container's end to the end of waiting for it."""
    found = []
    for _ in range(count):
        result = client.submit(_spec()).wait(300)
        assert result.finished_at is not None
        found.append(time.time() - result.finished_at.timestamp())
    return tuple(found)


def measure(
    made: Installation,
    workers: Sequence[WorkerProcess],
    levels: Sequence[int],
    trickle: int,
    quiet: float,
    engine: Sequence[int],
) -> list[Level]:
    """Bring an installation to each level of jobs in flight, and look at it there.

    Args:
        made: the installation; its workers are up.
        workers: they.
        levels: numbers of jobs in flight, ascending.
        trickle: real jobs at each level.
        quiet: seconds to watch while nothing changes.
        engine: process ids of the engine.
    """
    found: list[Level] = []
    pids = [worker.pid for worker in workers]
    redis = made.ledger.client
    with client_of(made) as client:
        for handle in client.submit_many([_spec()] * (2 if len(levels) < 3 else 12)):  # so that all threads are there
            handle.wait(300)
        for level in levels:
            more = level - (found[-1].in_flight if found else 0)
            started = time.monotonic()
            if more:
                client.submit_many(_spec(constraints=_NOWHERE) for _ in range(more))
                eventually(
                    partial(_pending, made, level),
                    3600,
                    lambda: f"all to be pending: {made.ledger.queries.counts()}",
                )
            took = time.monotonic() - started
            time.sleep(min(quiet, 5.0))  # the way up leaves some work behind
            before, engine_before, redis_before = usage(*pids), usage(*engine), redis.info()
            began = time.monotonic()
            time.sleep(quiet)
            after, engine_after, redis_after = usage(*pids), usage(*engine), redis.info()
            watched = time.monotonic() - began
            commands = redis_after["total_commands_processed"] - redis_before["total_commands_processed"]
            found.append(
                Level(
                    level,
                    after.memory,
                    after.threads,
                    (after.cpu - before.cpu) / watched,
                    (engine_after.cpu - engine_before.cpu) / watched,
                    _redis_cpu(redis_before, redis_after) / watched,
                    commands / watched,
                    _trickle(client, trickle),
                    more / took if took else 0.0,
                )
            )
            say(f"bench: {found[-1]}")
    return found


def _pending(made: Installation, level: int) -> bool:
    return made.ledger.queries.counts()[JobState.PENDING] >= level


def _redis_cpu(before: dict[str, Any], after: dict[str, Any]) -> float:
    return sum(float(after[name]) - float(before[name]) for name in ("used_cpu_user", "used_cpu_sys"))


def draw(path: Path, what: str, levels: Sequence[Level]) -> None:
    """Draw the cost against the jobs in flight: cores while nothing changes."""
    names = {"workers": "worker_cpu", "engine": "engine_cpu", "Redis": "redis_cpu"}
    curve(
        path,
        f"{what}: while nothing changes",
        "jobs in flight",
        "cores",
        {name: [(one.in_flight, getattr(one, field)) for one in levels] for name, field in names.items()},
    )


def rows_of(what: str, levels: Sequence[Level], workers: int) -> list[Row]:
    """Return the table's rows for the levels, the first of which is the one with nothing in flight.

    Args:
        what: the engine, for the case's name.
        levels: what was seen.
        workers: how many workers there are.
    """
    idle, found = levels[0], []
    for one in levels:
        case = f"{what}, {one.in_flight:,} in flight"
        if one.in_flight:
            each = (one.memory - idle.memory) / one.in_flight / _KB
            more = one.threads - idle.threads
            found += [
                Row(case, "worker's memory per job in flight", "KB", each, target=Target("<=", 15)),
                Row(case, "threads more than with none in flight", "", more, target=Target("<=", 0)),
                Row(case, "jobs that became pending", "1/s", one.ramp),
            ]
        cores = one.worker_cpu / workers
        found += [
            Row(case, "cores of a worker while nothing changes", "", cores, target=Target("<=", 0.05)),
            *([Row(case, "cores of the engine meanwhile", "", one.engine_cpu)] if one.engine_cpu else []),
            Row(case, "cores of Redis meanwhile", "", one.redis_cpu),
            Row(case, "Redis commands meanwhile", "1/s", one.redis_commands),
        ]
        median = percentile(one.latency, 50)
        target = Target("<=", 2 * percentile(idle.latency, 50) * 1000) if one.in_flight else None
        note = "target: twice that with none in flight" if target else ""
        found.append(Row(case, "container's end to wait(), p50", "ms", median * 1000, tuple(one.latency), target, note))
    return found


class _InFlight:
    name = "inflight"
    title = "Thousands of jobs in flight"
    caveats = (
        "Jobs in flight are services that no node can take; a worker does the same for one that runs.",
        "Idle figures are of a minute in which nothing changes; the trickle is one short job at a time.",
        "In a swarm of one node its engine's events tell of all ends, so that ended tasks are looked at once a second; "
        "with several nodes that is up to ten times as often.",
    )

    def run(self, options: Options) -> list[Row]:
        """Measure one worker on the real engine."""
        levels = (0, 5, 10) if options.short else _LEVELS
        engine = engine_pids(options.engine)
        with home(options, max_in_flight=max(levels) + 100) as (made, worker):
            found = measure(
                made, [worker], levels, 1 if options.short else 20, 0.5 if options.short else _QUIET, engine
            )
        draw(options.out / "inflight.svg", "One worker, a real engine", found)
        return rows_of("real engine", found, 1)


PART = _InFlight()
