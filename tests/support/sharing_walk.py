"""A random walk of many workers that share a cluster by `jaas_submit.queues`, and that die between any two steps.

    python -m tests.support.sharing_walk --steps 1000000

Each step is one that can be followed by a crash: a worker reads a snapshot; it applies one admission of its plan, as
the ledger's script does (the job still waits, and ``Book.try_hold`` allows it); a job ends; a lease runs out and
another worker adopts; somebody submits, pauses, or changes a limit. Plans are as old as chance makes them. After each
step the limits are counted anew from the jobs that are there, without the book.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from random import Random

from jaas_submit.queues.admission import Admission, Rule, admit
from jaas_submit.queues.book import Book
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.rules import GroupRules, QueueRules, Rules, TenantRules
from jaas_submit.queues.snapshot import LineKey, Snapshot, first_of
from tests.support.sharing import ANY, lines_of, nodes

__all__ = ["Walk"]

_WORKERS = 3
_MOST_WAITING = 60
_DEMANDS = [
    Demand.of(cpus=cpus, nodes=ANY, kind="k", groups=groups, rates=rates, singleton=singleton)
    for cpus in (0.5, 1.0, 3.0)
    for groups, rates, singleton in (
        (None, None, None),
        ({"db": 1}, None, None),
        ({"db": 2, "disk": 1}, None, None),
        (None, {"fast": "10/s"}, None),
        (None, {"slow": "1/s,2", "fast": "10/s"}, None),
        (None, None, "one"),
        ({"disk": 1}, {"slow": "1/s,2"}, "two"),
    )
]


@dataclass
class _Worker:
    alive: bool = True
    lease: float = 0.0
    plan: deque[Admission] = field(default_factory=deque)


@dataclass
class _Running:
    key: LineKey
    holder: int


class Walk:
    """One walk.

    Args:
        seed: of chance.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 1000.0
        self.steps = self.admitted = self.refused = self.crashes = 0
        self.rules = Rules(
            queues={
                "high": QueueRules(priority=5, max_in_flight=6),
                "low": QueueRules(age_after=30.0),
                "more": QueueRules(weight=2.0),
            },
            tenants={"a": TenantRules(weight=3.0, max_in_flight=7), "b": TenantRules(quota_cpus=4.0, borrow=False)},
            groups={"db": GroupRules(3), "disk": GroupRules(1)},
        )
        self.book = Book()
        self.waiting: dict[str, tuple[LineKey, float]] = {}
        self.running: dict[str, _Running] = {}
        self.workers = [_Worker() for _ in range(_WORKERS)]
        self._buckets: dict[str, tuple[float, float]] = {}
        self._count = 0

    def walk(self, steps: int) -> None:
        """Take many steps."""
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        """Take one step of any kind, and check all limits."""
        self.steps += 1
        self.now += self.random.choice((0.0, 0.001, 0.01, 0.2, 2.0))
        chance = self.random.random()
        number = self.random.randrange(_WORKERS)
        worker = self.workers[number]
        if chance < 0.30:
            self.submit()
        elif chance < 0.42:
            self.plan(worker)
        elif chance < 0.72:
            self.apply(number)
        elif chance < 0.92:
            self.end()
        elif chance < 0.95:
            self.crash(worker)
        elif chance < 0.99:
            self.adopt()
        else:
            self.change_rules()
        self.check()

    def submit(self) -> None:
        """Submit a job, unless many wait."""
        if len(self.waiting) >= _MOST_WAITING:
            return
        self._count += 1
        key = LineKey(
            self.random.choice(("high", "low", "more")),
            self.random.choice(("a", "b", "c")),
            self.random.choice((0, 1, 255)),
            self.random.choice(_DEMANDS),
        )
        self.waiting[f"j{self._count:08}"] = key, self.now

    def snapshot(self) -> Snapshot:
        """Return what a worker reads now."""
        lines = lines_of((key, since, job_id) for job_id, (key, since) in self.waiting.items())
        free = 24.0 - sum(one.key.demand.cpus for one in self.running.values())
        return Snapshot(self.rules, lines, self.book, nodes(1, cpus=24.0, free=[free]))

    def plan(self, worker: _Worker) -> None:
        """Let a worker read a snapshot and plan; it may never come to apply it."""
        if worker.alive:
            worker.plan = deque(admit(first_of(self.snapshot(), 5), self.now, 5).admitted)

    def apply(self, number: int) -> None:
        """Let a worker apply the next admission of its plan, as the ledger's script does."""
        worker = self.workers[number]
        if not worker.alive or not worker.plan:
            return
        one = worker.plan.popleft()
        if one.job_id not in self.waiting:
            return  # another worker was quicker
        key = one.key
        by_age = one.rule is Rule.AGE
        if self.book.try_hold(self.rules, key.queue, key.tenant, key.demand, one.job_id, self.now, by_age=by_age):
            self.refused += 1
            return
        del self.waiting[one.job_id]
        self.running[one.job_id] = _Running(key, number)
        self.admitted += 1
        self._check_start(one.job_id)

    def end(self) -> None:
        """Let a job end, if its holder is there to record that."""
        held = [job_id for job_id, one in self.running.items() if self.workers[one.holder].alive]
        if held:
            job_id = self.random.choice(held)
            key = self.running.pop(job_id).key
            self.book.let_go(self.rules, key.queue, key.tenant, key.demand, job_id, self.now)

    def crash(self, worker: _Worker) -> None:
        """Kill a worker: its plan is gone, and its jobs wait for another holder."""
        if sum(one.alive for one in self.workers) > 1 and worker.alive:
            worker.alive, worker.lease = False, self.now + 5
            worker.plan.clear()
            self.crashes += 1

    def adopt(self) -> None:
        """Let a live worker take the jobs of one whose lease has run out; that one starts anew."""
        alive = [number for number, one in enumerate(self.workers) if one.alive]
        for dead, worker in enumerate(self.workers):
            if not worker.alive and worker.lease <= self.now:
                for one in self.running.values():
                    if one.holder == dead:
                        one.holder = self.random.choice(alive)
                worker.alive = True

    def change_rules(self) -> None:
        """Pause or resume a queue, or change a limit."""
        name = self.random.choice(sorted(self.rules.queues))
        queue = self.rules.queues[name]
        if self.random.random() < 0.5:
            queue = replace(queue, paused=not queue.paused and self.random.random() < 0.3)
        else:
            queue = replace(queue, max_in_flight=self.random.choice((None, 2, 6, 6)))
        groups = {**self.rules.groups, "db": GroupRules(self.random.choice((2, 3, 5)))}
        self.rules = replace(self.rules, queues={**self.rules.queues, name: queue}, groups=groups)

    # -- what must hold --------------------------------------------------------------------

    def _check_start(self, job_id: str) -> None:
        """Check that the rules of this moment allow the job that has just been started, counted from the jobs."""
        key = self.running[job_id].key
        queue, tenant = self.rules.queues[key.queue], self.rules.tenants.get(key.tenant, TenantRules())
        keys = [one.key for one in self.running.values()]
        assert not queue.paused
        assert queue.max_in_flight is None or sum(one.queue == key.queue for one in keys) <= queue.max_in_flight
        of_tenant = [one for one in keys if one.tenant == key.tenant]
        assert tenant.max_in_flight is None or len(of_tenant) <= tenant.max_in_flight
        assert tenant.borrow or sum(one.demand.cpus for one in of_tenant) <= (tenant.quota_cpus or 0)
        for name, _ in key.demand.groups:
            held = sum(weight for one in keys for group, weight in one.demand.groups if group == name)
            assert held <= self.rules.groups[name].capacity
        for name, rate in key.demand.rates:  # a leaking bucket: the same limit, reckoned in another way
            level, at = self._buckets.get(name, (0.0, self.now))
            level = max(level - (self.now - at) / rate.interval, 0.0) + 1
            assert level <= rate.burst + 1e-6, name
            self._buckets[name] = level, self.now

    def check(self) -> None:
        """Check what must hold after every step, and that the book has what is there."""
        keys = [one.key for one in self.running.values()]
        singles = Counter(one.demand.singleton for one in keys if one.demand.singleton)
        assert all(count == 1 for count in singles.values()), singles
        assert set(self.book.singletons) == set(singles)
        for name in self.rules.groups:
            held = sum(weight for one in keys for group, weight in one.demand.groups if group == name)
            assert self.book.groups.get(name, 0) == held
        for of, uses in ((0, self.book.queues), (1, self.book.tenants)):
            counts = Counter(str(key[of]) for key in keys)
            assert {name: use.jobs for name, use in uses.items() if use.jobs} == dict(counts)
            for name, use in uses.items():
                assert abs(use.cpus - sum(key.demand.cpus for key in keys if key[of] == name)) < 1e-6

    def drain(self) -> int:
        """Resume all, submit no more, and return how many rounds it takes until nothing waits."""
        queues = {name: replace(one, paused=False, max_in_flight=6) for name, one in self.rules.queues.items()}
        self.rules = replace(self.rules, queues=queues, groups={"db": GroupRules(3), "disk": GroupRules(1)})
        rounds = 0
        while self.waiting:
            rounds += 1
            before = len(self.waiting)
            self.now += 10
            self.adopt()
            while self.running and any(self.workers[one.holder].alive for one in self.running.values()):
                self.end()
            for number, worker in enumerate(self.workers):
                self.plan(worker)
                while worker.plan:
                    self.apply(number)
                    self.check()
            assert len(self.waiting) < before, "nothing started, although nothing runs"
        return rounds


def main() -> int:
    """Walk as far as asked, and tell what happened."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    walk = Walk(given.seed)
    walk.walk(given.steps)
    told = f"{walk.steps:,} steps, {walk.admitted:,} starts, {walk.refused:,} refused when applied"
    waited, rounds = len(walk.waiting), walk.drain()
    print(f"{told}, {walk.crashes:,} crashes; no limit exceeded; {waited} that still waited started in {rounds} rounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
