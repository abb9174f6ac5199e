"""A soak: twenty thousand jobs, most of them on a simulated engine, some in real containers, and what stays behind.

Two installations share one Redis: one on the real engine, one on a simulated one that is as quick as ten nodes. Their
records expire after two minutes, so that what comes and what goes should soon be equally much. Every few seconds all
that could grow is counted; the second half of the run is what is judged.
"""

from __future__ import annotations

import contextlib
import csv
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from benchmarks.brief_records import TTL
from benchmarks.harness import Options, Row, Target, say
from benchmarks.home import client_of
from benchmarks.machine import usage
from benchmarks.plots import curve
from benchmarks.simulator import simulator
from jaas_submit import Client, JobSpec
from jaas_submit.model.states import TERMINAL, JobState
from jaas_submit.model.wire_names import LABEL_PREFIX
from jaas_worker.swarm.docker_engine import Swarm
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation, WorkerProcess

__all__ = ["PART"]

_JOBS = 20_000
_REAL = 0.06
"""Part of the jobs that are real containers: what a machine of 2 cores starts in the time of the others."""
_RECORDS_KEPT = 120
_EVERY = 10.0
"""Seconds between two counts."""
_AHEAD = 60
"""Jobs of one installation that wait or run at any time."""


@dataclass(frozen=True, slots=True)
class Count:
    """What there was at one moment."""

    seconds: float
    jobs: int
    memory: float
    """MB of both workers."""
    files: int
    threads: int
    keys: int
    redis_memory: float
    """MB."""
    services: int
    """Of both engines, and configs."""
    containers: int
    """Of the real engine, running or not."""


class _Feeder:
    """Keeps one installation busy until so many jobs are done.

    Args:
        client: of the installation.
        jobs: how many.
        ahead: how many may wait or run at any time.
        commands: what the jobs do, in turns.
    """

    def __init__(self, client: Client, jobs: int, ahead: int, commands: Sequence[Sequence[str]]) -> None:
        self.client = client
        self.submitted = 0
        self._jobs = jobs
        self._ahead = ahead
        self._commands = commands

    def open(self) -> int:
        """Return how many jobs have not ended."""
        return sum(count for state, count in self.client.ledger.queries.counts().items() if state not in TERMINAL)

    def check(self) -> None:
        """Raise when a job has ended badly."""
        counts = self.client.ledger.queries.counts()
        bad = {state: count for state, count in counts.items() if count and state in TERMINAL - {JobState.SUCCEEDED}}
        assert not bad, f"jobs did not succeed: {bad}"

    @property
    def part(self) -> float:
        """Which part of its jobs has been submitted."""
        return self.submitted / self._jobs

    def feed(self, part: float = 1.0) -> bool:
        """Submit what there is room for; return whether all jobs have been submitted and have ended.

        Args:
            part: no more than this part of all jobs, for now.
        """
        still = self.open()
        count = min(self._ahead - still, self._jobs - self.submitted, int(part * self._jobs) + 1 - self.submitted)
        if count > 0:
            numbers = range(self.submitted, self.submitted + count)
            commands = [list(self._commands[n % len(self._commands)]) for n in numbers]
            self.client.submit_many(JobSpec(image=TEST_IMAGE, command=command) for command in commands)
            self.submitted += count
        return self.submitted == self._jobs and still == 0


@contextlib.contextmanager
def _worker(options: Options, name: str, engine: str) -> Iterator[tuple[Installation, WorkerProcess]]:
    prefix = f"soak-{name}-{uuid.uuid4().hex[:8]}"  # another run on the same engine must not remove its services
    made = Installation(options.redis_url, engine, prefix, options.out, **{TTL: _RECORDS_KEPT})
    made.app = "benchmarks.brief_records"
    try:
        yield made, made.worker(f"soak-{name}").start()
    finally:
        made.close()


class _Soak:
    name = "soak"
    title = "Soak: twenty thousand jobs"
    caveats = (
        f"{100 - 100 * _REAL:.0f} of 100 jobs ran on the simulated engine, the others in real containers.",
        f"Records are kept for {_RECORDS_KEPT} s instead of a week, so that expiry and its sweep take part.",
        "Growth is the slope of a straight line through the second half of the run, as a part of the mean there.",
    )

    def run(self, options: Options) -> list[Row]:
        """Run the jobs; the counts are in soak.csv, the curves in soak.svg."""
        jobs = 20 if options.short else _JOBS
        real = max(int(jobs * _REAL), 2)
        counts: list[Count] = []
        with (
            simulator(options.out, nodes=10, starts=20) as (host, _),
            _worker(options, "real", options.engine) as (first, first_worker),
            _worker(options, "simulated", host) as (second, second_worker),
            client_of(first) as near,
            client_of(second) as far,
        ):
            slow = _Feeder(near, real, 8, (["true"], ["sh", "-c", "echo one; sleep 0.2"]))
            quick = _Feeder(far, jobs - real, _AHEAD, (["true"], ["sleep", "0.5"], ["sleep", "3"]))
            feeders = (slow, quick)
            pids = (first_worker.pid, second_worker.pid)
            began, done, next_count = time.monotonic(), False, 0.0
            while not done:
                # Neither is to be through long before the other.
                done = all([slow.feed(quick.part), quick.feed(slow.part + 0.05)])
                if done or time.monotonic() >= next_count:
                    next_count = time.monotonic() + _EVERY
                    for feeder in feeders:
                        feeder.check()
                    submitted = sum(feeder.submitted - feeder.open() for feeder in feeders)
                    counts.append(_count(time.monotonic() - began, submitted, first, second, pids))
                    say(f"bench: {counts[-1]}")
                time.sleep(0.05 if options.short else 0.2)
            taken = time.monotonic() - began
        _write(options.out, counts)
        return [Row("all jobs", "throughput", "jobs/s", jobs / taken), *_growth(counts)]


def _count(seconds: float, jobs: int, real: Installation, simulated: Installation, pids: Sequence[int]) -> Count:
    used, client = usage(*pids), real.ledger.client
    services = [
        len(engine.services(f"{LABEL_PREFIX}={made.prefix}")) + len(engine.configs(f"{LABEL_PREFIX}={made.prefix}"))
        for made, engine in ((real, real.swarm), (simulated, Swarm(simulated.engine_host)))
    ]
    info: dict[str, Any] = client.info("memory")
    api = docker.APIClient(base_url=real.engine_host, version="auto")
    try:
        containers = api.containers(all=True, filters={"label": ["jaas.job"]})
    finally:
        api.close()
    return Count(
        seconds,
        jobs,
        used.memory / 1e6,
        used.files,
        used.threads,
        int(client.dbsize()),
        int(info["used_memory"]) / 1e6,
        sum(services),
        len(containers),
    )


_JUDGED = (
    ("memory", "memory of both workers", "MB", 0.05),
    ("files", "open files of both workers", "", 0.05),
    ("threads", "threads of both workers", "", 0.05),
    ("keys", "keys in Redis for each job whose record is kept", "", 0.1),
    ("redis_memory", "Redis' memory for each job whose record is kept", "KB", 0.1),
    ("services", "services and configs", "", 0.2),
    ("containers", "containers", "", 0.2),
)
"""Field, name, unit, and the growth over the second half that still counts as flat: jobs in flight vary a little."""


def _growth(counts: Sequence[Count]) -> list[Row]:
    # The last count is after the end, and the first ones are of the way up.
    half = [one for one in counts if one.jobs >= counts[-1].jobs / 2][:-1] or list(counts)
    rows = []
    for field, name, unit, most in _JUDGED:
        values = [float(getattr(one, field)) for one in half]
        if field in {"keys", "redis_memory"}:  # they come and go with the jobs, of which there are not always as many
            scale = 1000 if unit == "KB" else 1
            values = [scale * value / _kept(counts, one) for value, one in zip(values, half, strict=True)]
        mean = sum(values) / len(values)
        growth = _slope([one.seconds for one in half], values) * (half[-1].seconds - half[0].seconds)
        rows.append(Row("second half", f"{name}, mean", unit, mean))
        rows.append(Row("second half", f"{name}, growth", "", growth / mean if mean else 0.0, (), Target("<=", most)))
    return rows


def _kept(counts: Sequence[Count], one: Count) -> int:
    """Return how many jobs have ended so lately that their records are still there; 1 at least."""
    before = [other.jobs for other in counts if other.seconds <= one.seconds - _RECORDS_KEPT]
    return max(one.jobs - max(before, default=0), 1)


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of the straight line with the least squares."""
    n = len(x)
    middle_x, middle_y = sum(x) / n, sum(y) / n
    spread = sum((a - middle_x) ** 2 for a in x)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0


def _write(folder: Path, counts: Sequence[Count]) -> None:
    names = Count.__dataclass_fields__
    with (folder / "soak.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(one, name) for name in names] for one in counts)
    top = {field: max(float(getattr(one, field)) for one in counts) or 1.0 for field, *_ in _JUDGED}
    curve(
        folder / "soak.svg",
        "Soak: what there is, as a part of the most there ever was",
        "jobs done",
        "part of the most",
        {
            f"{field.replace('_', ' ')} (most: {top[field]:,.0f})": [
                (one.jobs, float(getattr(one, field)) / top[field]) for one in counts
            ]
            for field, *_ in _JUDGED
        },
    )


PART = _Soak()
