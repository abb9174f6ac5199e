"""Decisions of the queues: how many a second, and how long a pass takes, with many jobs waiting on many nodes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from random import Random

from benchmarks.harness import Options, Row, Target, say
from benchmarks.queue_keys import queue_keys
from benchmarks.stats import percentile
from jaas_submit.queues.admission import Admissions, admit
from jaas_submit.queues.book import Book
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.rules import GroupRules, QueueRules, Rules, TenantRules
from jaas_submit.queues.snapshot import Line, LineKey, Nodes, Snapshot, Waiting

__all__ = ["PART"]

_WAITING, _NODES, _PASSES = 100_000, 1_000, 200
_PASS = 100
"""Most admissions of a pass."""


class _Cluster:
    """Many jobs of many tenants, in some thousand lines; whatever is admitted runs until it is ended.

    Args:
        waiting: how many jobs wait.
        count: how many nodes there are.
    """

    def __init__(self, waiting: int, count: int) -> None:
        self.random = Random(5)  # noqa: S311 - no secret
        self.rules = Rules(
            queues={f"q{n}": QueueRules(priority=n % 4, weight=1 + n % 3) for n in range(10)},
            tenants={f"t{n}": TenantRules(weight=1 + n % 5) for n in range(100)},
            groups={f"g{n}": GroupRules(50) for n in range(20)},
        )
        self.book = Book()
        self.now = 10_000.0
        demands = [
            Demand.of(
                cpus=self.random.choice([0.5, 1, 2, 4]),
                memory=self.random.choice([1, 2, 4]) * 2**30,
                nodes="half" if n % 3 == 0 else "all",
                kind=f"k{n % 7}",
                groups={f"g{n % 20}": 1} if n % 4 == 0 else None,
            )
            for n in range(40)
        ]
        self.lines: dict[LineKey, deque[Waiting]] = {}
        for n in range(waiting):
            tenant = self.random.randrange(100)
            asked = demands[(tenant * 7 + self.random.randrange(5)) % 40]
            key = LineKey(f"q{(tenant + n % 2) % 10}", f"t{tenant}", self.random.choice([0, 10]), asked)
            self.lines.setdefault(key, deque()).append(Waiting(n / 100, f"j{n:07}"))
        self.cpus, self.memory = [16.0] * count, [64.0 * 2**30] * count
        self.nodes = Nodes(
            ids=[f"n{n}" for n in range(count)],
            cpus=[16.0] * count,
            memory=[64.0 * 2**30] * count,
            free_cpus=self.cpus,
            free_memory=self.memory,
            classes={"all": range(count), "half": range(0, count, 2)},
        )
        self.running: list[tuple[str, LineKey, int]] = []
        self._known: dict[LineKey, Line] = {}
        self._changed = set(self.lines)

    def snapshot(self) -> Snapshot:
        """Return the first jobs of each line, as they would be read from the ledger."""
        for key in self._changed:
            jobs = self.lines[key]
            self._known[key] = Line(key, [jobs[n] for n in range(min(len(jobs), _PASS))], len(jobs))
        self._changed.clear()
        lines = [line for line in self._known.values() if line.size]
        return Snapshot(self.rules, lines, self.book, self.nodes)

    def apply(self, found: Admissions) -> None:
        """Start what was admitted."""
        for one in found.admitted:
            key, demand = one.key, one.key.demand
            self.book.hold(self.rules, key.queue, key.tenant, demand, one.job_id, self.now)
            self.lines[key].popleft()
            self._changed.add(key)
            place = max(self.nodes.classes[demand.nodes], key=self.cpus.__getitem__)
            self.cpus[place] -= demand.cpus
            self.memory[place] -= demand.memory
            self.running.append((one.job_id, key, place))

    def end(self, count: int) -> None:
        """End some running jobs, and submit as many."""
        for _ in range(min(count, len(self.running))):
            number = self.random.randrange(len(self.running))
            self.running[number], self.running[-1] = self.running[-1], self.running[number]
            job_id, key, place = self.running.pop()
            self.book.let_go(self.rules, key.queue, key.tenant, key.demand, job_id, self.now)
            self.cpus[place] += key.demand.cpus
            self.memory[place] += key.demand.memory
            self.lines[key].append(Waiting(self.now, f"{job_id}+"))
            self._changed.add(key)


def _passes(cluster: _Cluster, count: int, ends: int) -> tuple[list[float], int, int]:
    """Return how long each of some passes took in seconds, the jobs that they admitted, and the number of lines."""
    took, admitted, lines = [], 0, 0
    for _ in range(count):
        cluster.now += 0.05
        cluster.end(ends)
        snapshot = cluster.snapshot()
        lines = len(snapshot.lines)
        started = time.process_time()
        found = admit(snapshot, cluster.now, _PASS)
        took.append(time.process_time() - started)
        admitted += len(found.admitted)
        cluster.apply(found)
    return took, admitted, lines


class _Queues:
    name = "queues"
    title = "Decisions of the queues"
    caveats = (
        "Decisions: processor time, in one process, without Redis.",
        "A line is the jobs of one queue, tenant and priority that ask for the same. A pass admits up to 100 jobs.",
        "What Redis has to do is a trial: the product does not read or apply snapshots yet.",
    )

    def run(self, options: Options) -> list[Row]:
        """Measure passes on a cluster that fills, on a full one in which jobs end, and on one without any room."""
        waiting, nodes, passes = (500, 10, 5) if options.short else (_WAITING, _NODES, _PASSES)
        say(f"bench: queues: {waiting} jobs on {nodes} nodes")
        cluster = _Cluster(waiting, nodes)
        rows = []
        for case, ends in (("while the cluster fills", 0), ("full, 100 jobs end between two passes", 100)):
            if ends:
                while _passes(cluster, 1, 0)[1]:
                    pass
            took, admitted, lines = _passes(cluster, passes if ends else passes // 4, ends)
            ms = [1000 * one for one in took]
            rate = admitted / sum(took)
            rows += [
                Row(case, "decisions", "/s", rate, (), Target(">=", 2000), f"{lines} lines"),
                Row(case, "pass, p50", "ms", percentile(ms, 50), tuple(ms)),
                Row(case, "pass, p99", "ms", percentile(ms, 99), (), Target("<=", 100)),
            ]
        full = replace(cluster.snapshot(), nodes=replace(cluster.nodes, free_cpus=[0.0] * nodes))
        ms = []
        for _ in range(passes):
            started = time.process_time()
            admit(full, cluster.now, _PASS)
            ms.append(1000 * (time.process_time() - started))
        rows.append(Row("no room at all", "pass, p99", "ms", percentile(ms, 99), tuple(ms), Target("<=", 100)))
        jobs, lines, repeats = (500, 10, 3) if options.short else (1_000_000, 2_000, 50)
        return rows + queue_keys(options.redis_url, waiting=jobs, lines=lines, repeats=repeats)


PART = _Queues()
