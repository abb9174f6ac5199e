"""PURE: a cluster on which jobs start by the real decisions and end after their run time, faster than time.

Each event (a job arrives or ends, or time allows a start) is followed by a pass of ``admit``. What a worker and the
ledger do with its answer is done here at once: each admission is applied if ``Book.try_hold`` allows it, and the swarm
puts the job on the node with the fewest jobs among those with room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from jaas_submit.queues.admission import Admission, Admissions, Rule, admit
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.reasons import Reason
from jaas_submit.queues.room import EPSILON
from jaas_submit.queues.snapshot import InFlight, Line, LineKey, Nodes, Reservation, Running, Snapshot, Waiting

__all__ = ["MADE_UP", "Arrival", "GivenUp", "ModelCluster", "Start"]

MADE_UP: Final = "~"
"""First character of the ids of jobs that are counted, and not known."""

_MOST_MADE_UP: Final = 20_000
_PASS: Final = 100
"""Most admissions of one pass, and jobs of a line that it sees."""
_KEPT: Final = 1000
"""Jobs at the beginning of a line's list that are through before the list is made shorter."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job that is submitted."""

    at: float
    """When it may start: its submission, or its start time."""
    id: str
    key: LineKey


@dataclass(frozen=True, slots=True)
class Start:
    """A job that was started."""

    id: str
    key: LineKey
    since: float
    """When it was submitted."""
    at: float
    """When its container ran."""
    run: float
    """How many seconds it runs."""

    @property
    def wait(self) -> float:
        """Seconds that it waited."""
        return self.at - self.since


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A job that waited longer than its queue allows."""

    id: str
    key: LineKey
    at: float
    reason: Reason


class _Line:
    """A line that grows at its end and shrinks at its beginning."""

    __slots__ = ("blocked", "done", "jobs")

    def __init__(self, jobs: list[Waiting], blocked: Reason | None = None) -> None:
        self.jobs = jobs
        self.done = 0
        self.blocked = blocked

    def take(self, job_id: str) -> Waiting:
        """Remove a job, which is nearly always the first one."""
        if self.jobs[self.done].id == job_id:
            self.done += 1
            job = self.jobs[self.done - 1]
            if self.done > _KEPT:
                del self.jobs[: self.done]
                self.done = 0
            return job
        place = next(n for n in range(self.done, len(self.jobs)) if self.jobs[n].id == job_id)
        return self.jobs.pop(place)

    @property
    def size(self) -> int:
        return len(self.jobs) - self.done


class _State:
    """The nodes, with what runs on them."""

    def __init__(self, nodes: Nodes, running: Iterable[tuple[int, Sequence[Running]]]) -> None:
        self.ids = nodes.ids
        self.free_cpus = list(nodes.free_cpus)
        self.free_memory = list(nodes.free_memory)
        self.running = {place: list(jobs) for place, jobs in running}
        self.jobs = list(nodes.jobs) or [len(self.running.get(place, ())) for place in range(len(nodes.ids))]
        self.nodes = Nodes(
            ids=nodes.ids,
            cpus=nodes.cpus,
            memory=nodes.memory,
            free_cpus=self.free_cpus,
            free_memory=self.free_memory,
            jobs=self.jobs,
            classes=nodes.classes,
            left_out=nodes.left_out,
        )

    def put(self, demand: Demand, avoid: Sequence[str], most_jobs: float) -> int | None:
        """Take room where the swarm would, on the node with the fewest jobs; return its place, or None."""
        best: tuple[int, int] | None = None
        cpus, memory, jobs = self.free_cpus, self.free_memory, self.jobs
        for place in self.nodes.classes.get(demand.nodes, ()):
            if (
                (best is None or jobs[place] < best[0])
                and cpus[place] + EPSILON >= demand.cpus
                and memory[place] >= demand.memory
                and jobs[place] < most_jobs
                and self.ids[place] not in avoid
            ):
                best = jobs[place], place
                if not jobs[place]:
                    break
        if best is None:
            return None
        place = best[1]
        cpus[place] -= demand.cpus
        memory[place] -= demand.memory
        jobs[place] += 1
        return place

    def give_back(self, place: int, job: Running) -> None:
        self.free_cpus[place] += job.key.demand.cpus
        self.free_memory[place] += job.key.demand.memory
        self.jobs[place] -= 1
        self.running[place].remove(job)


class ModelCluster:
    """A cluster in memory, at a time of its own.

    Args:
        snapshot: how it begins. It is not changed. Of lines whose jobs are not all known, the others get made-up ids.
        now: when it begins.
        run_time: a job's id, its line, and for how many seconds it has run -> the seconds that it goes on.
        start_delay: seconds from the admission to the running container.
        step: seconds that pass between two decisions at least; with many lines a decision takes long.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        now: float,
        run_time: Callable[[str, LineKey, float], float],
        *,
        start_delay: float = 0.0,
        step: float = 0.0,
    ) -> None:
        self.now = now
        self.rules = snapshot.rules
        self.book = snapshot.book.copy()
        self.starts: list[Start] = []
        """In the order of their admission."""
        self.given_up: list[GivenUp] = []
        self.passes = 0
        """How often ``admit`` was asked."""
        self._run_time, self._start_delay, self._step = run_time, start_delay, step
        self._decided = -math.inf
        self._state = _State(snapshot.nodes, snapshot.running.items())
        self._run_times = snapshot.run_times
        self._reservations: Sequence[Reservation] = snapshot.reservations
        self._lines = {line.key: _Line(_all_jobs(line), line.blocked) for line in snapshot.lines if line.size}
        self._submitted: dict[str, float] = {}
        self._ends: list[tuple[float, str, int, Running]] = []
        for place, jobs in snapshot.running.items():
            for job in jobs:
                end = now + run_time(job.id, job.key, max(now - job.started, 0.0))
                heappush(self._ends, (end, job.id, place, job))
        self._unplaced = list(snapshot.unplaced)
        self._wake = now
        """When to decide next, if nothing happens before."""

    def run(
        self, arrivals: Iterable[Arrival] = (), until: float = math.inf, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Let time pass, until nothing more happens.

        Args:
            arrivals: jobs, in the order of time.
            until: stop before the first event after this time.
            stop: asked before each event: whether to stop there.
        """
        coming = iter(arrivals)
        following = next(coming, None)
        while not stop():
            at = min(self._wake, self._ends[0][0] if self._ends else math.inf, following.at if following else math.inf)
            if not math.isinf(at):
                at = max(at, self._decided + self._step)
            if math.isinf(at) or at > until:
                break
            self.now = max(at, self.now)
            # A job behind others of its line changes nothing: what keeps the first one back keeps it back.
            changed = self._wake <= self.now or bool(self._ends and self._ends[0][0] <= self.now)
            while following is not None and following.at <= self.now:
                changed = self._arrive(following) or changed
                following = next(coming, None)
            while self._ends and self._ends[0][0] <= self.now:
                _, _, place, job = heappop(self._ends)
                self._state.give_back(place, job)
                self._let_go(job.id, job.key)
            if changed:
                self._decide()

    def snapshot(self) -> Snapshot:
        """Return what the decisions see now; it is valid until the model goes on."""
        return Snapshot(
            rules=self.rules,
            lines=[
                Line(key, line.jobs[line.done : line.done + _PASS], line.size, line.blocked)
                for key, line in self._lines.items()
            ],
            book=self.book,
            nodes=self._state.nodes,
            unplaced=self._unplaced,
            running=self._state.running,
            run_times=self._run_times,
            reservations=self._reservations,
        )

    def waiting(self) -> int:
        """Return how many jobs wait."""
        return sum(line.size for line in self._lines.values())

    def _arrive(self, arrival: Arrival) -> bool:
        """Put a job into its line; return whether it is the first one there."""
        line = self._lines.get(arrival.key)
        if line is None:
            line = self._lines[arrival.key] = _Line([])
        line.jobs.append(Waiting(arrival.at, arrival.id))
        return line.size == 1

    def _let_go(self, job_id: str, key: LineKey) -> None:
        self.book.let_go(self.rules, key.queue, key.tenant, key.demand, job_id, self.now)

    def _decide(self) -> None:
        self._decided = self.now
        unplaced, self._unplaced = self._unplaced, []
        for job in unplaced:
            self._place(job)
        while True:
            found = admit(self.snapshot(), self.now, _PASS)
            self.passes += 1
            self._apply(found)
            if not (found.cut and found.admitted):
                break
        self._wake = math.inf if found.next_at is None else max(found.next_at, math.nextafter(self.now, math.inf))

    def _apply(self, found: Admissions) -> None:
        self._reservations = found.reservations
        for admission in found.admitted:
            self._admit(admission)
        for one in found.overdue:
            key = one.key
            self._lines[key].take(one.job_id)
            self.given_up.append(GivenUp(one.job_id, key, self.now, one.reason))
        for key in [key for key, line in self._lines.items() if not line.size]:
            del self._lines[key]
        for key, reason in found.reasons.items():
            if line := self._lines.get(key):
                line.blocked = reason

    def _admit(self, admission: Admission) -> None:
        key, by_age = admission.key, admission.rule is Rule.AGE
        job_id = admission.job_id
        if self.book.try_hold(self.rules, key.queue, key.tenant, key.demand, job_id, self.now, by_age=by_age) is None:
            self._submitted[job_id] = self._lines[key].take(job_id).since
            self._place(InFlight(job_id, key, self.now, admission.avoid))

    def _place(self, job: InFlight) -> None:
        most = math.inf if self.rules.jobs_per_node is None else self.rules.jobs_per_node
        place = self._state.put(job.key.demand, job.avoid, most)
        if place is None:
            self._unplaced.append(job)
            return
        started = self.now + self._start_delay
        seconds = self._run_time(job.id, job.key, 0.0)
        self.starts.append(Start(job.id, job.key, self._submitted.pop(job.id, job.since), started, seconds))
        expected = started + self._run_times.get(job.key.demand.kind, math.inf)
        running = Running(expected, job.id, job.key, started)
        self._state.running.setdefault(place, []).append(running)
        heappush(self._ends, (started + seconds, job.id, place, running))


def _all_jobs(line: Line) -> list[Waiting]:
    jobs = list(line.jobs)
    last = jobs[-1].since if jobs else 0.0
    return [*jobs, *(Waiting(last, f"{MADE_UP}{number}") for number in range(len(jobs), min(line.size, _MOST_MADE_UP)))]
