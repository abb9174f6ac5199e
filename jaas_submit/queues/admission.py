"""PURE: which waiting jobs start now, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from heapq import heapify, heappop, heappush
from typing import Final

from jaas_submit.queues.book import limit_on, within_quota
from jaas_submit.queues.demand import Demand
from jaas_submit.queues.order import LineState, Order
from jaas_submit.queues.reasons import PRECEDENCE, Code, Reason
from jaas_submit.queues.reservations import Reservations
from jaas_submit.queues.room import Room
from jaas_submit.queues.rules import QueueRules, TenantRules
from jaas_submit.queues.snapshot import Line, LineKey, Reservation, Snapshot

__all__ = ["Admission", "Admissions", "Overdue", "Rule", "admit", "why_waits"]

_PLAIN: Final = TenantRules()
_PLAIN_QUEUE: Final = QueueRules()


class Rule(StrEnum):
    """Why a job was next."""

    ORDER = "order"
    """By priority, shares and time of submission."""
    AGE = "age"
    """It is the oldest of the old jobs."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A job that starts now."""

    job_id: str
    key: LineKey
    """Its line: queue, tenant, priority and demand."""
    rule: Rule
    avoid: tuple[str, ...] = ()
    """Ids of nodes that the launch must exclude: they are kept for another job, or left out."""
    ahead: bool = False
    """Whether there is no room for it yet: it is with the swarm ahead of time (``Rules.look_ahead``)."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """A job that has waited for one reason longer than its queue allows."""

    job_id: str
    key: LineKey
    reason: Reason
    limit: float
    """Seconds that the queue allows."""


@dataclass(frozen=True, slots=True)
class Admissions:
    """What follows from a snapshot."""

    admitted: tuple[Admission, ...]
    """In the order in which they are to be applied."""
    reasons: Mapping[LineKey, Reason]
    """Why the first job of a line does not start, with ``since``: of each line that the pass came to and that still has
    jobs. Any other line waits for its turn (``Code.ORDER``)."""
    reservations: tuple[Reservation, ...]
    """For the next snapshot."""
    overdue: tuple[Overdue, ...]
    next_at: float | None
    """When time alone allows the next start or makes the next job overdue; None if only an event can."""
    cut: bool
    """Whether the pass stopped before its end: as many as asked for were admitted, or a line has more jobs than the
    snapshot holds. What was admitted until then is what a whole snapshot gives; look again at once."""


def admit(snapshot: Snapshot, now: float, limit: int = 100) -> Admissions:
    """Return which waiting jobs start now, and why the others do not.

    Args:
        snapshot: what is waiting, in flight and free. It is not changed.
        now: the time, in seconds since the epoch, by the clock of all times in the snapshot.
        limit: admit at most this many.
    """
    return _Pass(snapshot, now).run(limit)


def why_waits(snapshot: Snapshot, line: Line, now: float) -> Reason | None:
    """Return the limit that keeps the jobs of a line back now; None if none does, but room or order.

    Args:
        snapshot: with the rules and what is in flight.
        line: the line.
        now: the time.
    """
    key = line.key
    return limit_on(snapshot.book, snapshot.rules, key.queue, key.tenant, key.demand, now)


class _Pass:
    """One look at a snapshot."""

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self._snapshot, self._rules, self._now = snapshot, snapshot.rules, now
        self._book = snapshot.book.copy()
        self._room = Room(snapshot.nodes, self._rules.jobs_per_node)
        self._reservations = Reservations(snapshot, self._room, now)
        self._all_cpus = sum(snapshot.nodes.cpus)
        self._all_memory = sum(snapshot.nodes.memory)
        self._ahead: dict[str, int] = {}
        self._without_room: set[Demand] = set()
        self._admitted: list[Admission] = []
        self._reasons: dict[LineKey, Reason] = {}
        self._cut = False
        self._left_out = tuple(snapshot.nodes.left_out)
        self._keepers = [n for n, t in self._rules.tenants.items() if t.has_quota and not t.lend]
        self._states = [LineState(line, number) for number, line in enumerate(snapshot.lines)]
        self._keys: dict[str, float] = {}
        self._tenant_keys: dict[str, tuple[bool, float]] = {}
        self._old: list[tuple[float, str, int]] | None = None

    def run(self, limit: int) -> Admissions:
        self._place_unplaced()
        order = Order(self._live(), self._priority_of, self._queue_key, self._tenant_key)
        while not self._cut:
            if len(self._admitted) >= limit:
                self._cut = order.first() is not None
                break
            state, rule = self._oldest(), Rule.AGE
            if state is None:
                state, rule = order.first(), Rule.ORDER
            if state is None:
                break
            if self._try(state, rule):
                order.admitted()
        overdue, next_overdue = self._overdue()
        return Admissions(
            admitted=tuple(self._admitted),
            reasons=self._reasons,
            reservations=self._reservations.made(),
            overdue=overdue,
            next_at=self._next_at(next_overdue),
            cut=self._cut,
        )

    def _live(self) -> Iterable[LineState]:
        """Return the lines that are not kept back by something that holds for a whole queue."""
        standing: dict[str, Reason | None] = {}
        for state in self._states:
            queue = state.line.key.queue
            if queue not in standing:
                rules = self._rules.queues.get(queue)
                if rules is None:
                    standing[queue] = Reason(Code.QUEUE_UNKNOWN, queue)
                else:
                    standing[queue] = Reason(Code.QUEUE_PAUSED, queue) if rules.paused else None
            reason = standing[queue]
            if reason is not None and not state.dead:
                self._drop(state, reason)
        return [state for state in self._states if not state.dead]

    # -- the order --------------------------------------------------------------------

    def _priority_of(self, queue: str) -> int:
        return self._rules.queues.get(queue, _PLAIN_QUEUE).priority

    def _queue_key(self, name: str) -> float:
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = self._part_of_queue(name)
        return key

    def _tenant_key(self, name: str) -> tuple[bool, float]:
        key = self._tenant_keys.get(name)
        if key is None:
            key = self._tenant_keys[name] = self._part_of_tenant(name)
        return key

    def _part_of_queue(self, name: str) -> float:
        use = self._book.queues.get(name)
        if use is None:
            return 0.0
        part = use.part(self._now, self._rules.half_life, self._all_cpus, self._all_memory)
        return part / self._rules.queues.get(name, _PLAIN_QUEUE).weight

    def _part_of_tenant(self, name: str) -> tuple[bool, float]:
        rules, use = self._rules.tenants.get(name, _PLAIN), self._book.tenants.get(name)
        if use is None:
            return not rules.has_quota, 0.0
        borrows = not rules.has_quota or not within_quota(rules, use, _NOTHING)
        part = use.part(self._now, self._rules.half_life, self._all_cpus, self._all_memory)
        return borrows, part / rules.weight

    def _oldest(self) -> LineState | None:
        """Return the line whose first job is the oldest of the old ones, if a start is owed to it."""
        if not self._book.owes_age:
            return None
        if self._old is None:
            self._old = [(s.head.since, s.head.id, s.number) for s in self._states if not s.dead and self._is_old(s)]
            heapify(self._old)
        while self._old:
            since, job_id, number = heappop(self._old)
            state = self._states[number]
            if state.dead or not self._is_old(state):
                continue
            if (state.head.since, state.head.id) == (since, job_id):
                heappush(self._old, (since, job_id, number))
                return state
            heappush(self._old, (state.head.since, state.head.id, number))
        return None

    def _is_old(self, state: LineState) -> bool:
        after = self._rules.queues.get(state.line.key.queue, _PLAIN_QUEUE).age_after
        return bool(after) and self._now - state.head.since >= after

    # -- one line ---------------------------------------------------------------------

    def _try(self, state: LineState, rule: Rule) -> bool:
        """Admit the first job of a line, or drop the line with the reason; return whether it was admitted."""
        key = state.line.key
        demand, book = key.demand, self._book
        reason = limit_on(book, self._rules, key.queue, key.tenant, demand, self._now)
        if (reason is None or PRECEDENCE[reason.code] > _NO_NODE) and not self._room.is_possible(demand):
            reason = Reason(Code.NO_NODE)
        if reason is None and self._keepers:
            reason = self._quota_kept(key.tenant, demand)
        if reason is not None:
            self._drop(state, reason)
            return False
        found = self._find(state)
        if isinstance(found, Reason):
            self._drop(state, found)
            return False
        avoid, ahead = found
        job = state.head
        book.hold(self._rules, key.queue, key.tenant, demand, job.id, self._now, by_age=rule is Rule.AGE)
        self._admitted.append(Admission(job.id, key, rule, avoid, ahead))
        self._keys.pop(key.queue, None)
        self._tenant_keys.pop(key.tenant, None)
        if not state.advance() and state.next < state.line.size:
            self._cut = True
        return True

    def _find(self, state: LineState) -> tuple[tuple[str, ...], bool] | Reason:
        """Return which nodes a line's first job has to avoid, and whether it has no room yet; or why it waits."""
        demand = state.line.key.demand
        if demand in self._without_room:
            # Room only shrinks: what fitted nowhere, not even on a kept node, does not fit now.
            self._reservations.reserve(state.head.id, demand, self._without_room_since(state))
            return _CAPACITY
        place, kept_for = self._room.find(demand), ""
        filled = None
        if place is None:
            filled, kept_for = self._reservations.find(demand)
            place = filled
        if place is not None:
            self._room.put(place, demand)
            return self._avoided(filled), False
        self._reservations.reserve(state.head.id, demand, self._without_room_since(state))
        # A service keeps its constraints. So one that avoids a kept node is not left to wait for room.
        if self._ahead.get(demand.nodes, 0) < self._rules.look_ahead and not self._reservations.concern(
            demand, state.head.id
        ):
            self._ahead[demand.nodes] = self._ahead.get(demand.nodes, 0) + 1
            return self._avoided(self._reservations.place_of(state.head.id)), True
        if kept_for:
            return Reason(Code.RESERVED, kept_for)
        self._without_room.add(demand)
        return _CAPACITY

    def _without_room_since(self, state: LineState) -> float:
        blocked = state.line.blocked
        if state.next or blocked is None or blocked.since is None or blocked.code not in _NO_ROOM:
            return self._now
        return max(blocked.since, state.head.since)

    def _avoided(self, place: int | None) -> tuple[str, ...]:
        return (*self._left_out, *self._reservations.avoided(place))

    def _quota_kept(self, tenant: str, demand: Demand) -> Reason | None:
        """Return whose unused quota a job would take that lends none."""
        cpus, memory = self._room.free()
        for name in self._keepers:
            rules, use = self._rules.tenants[name], self._book.tenants.get(name)
            held_cpus, held_memory = (use.cpus, use.memory) if use else (0.0, 0.0)
            if name != tenant:
                cpus -= max((rules.quota_cpus or 0.0) - held_cpus, 0.0)
                memory -= max((rules.quota_memory or 0) - held_memory, 0.0)
            elif within_quota(rules, use, demand):
                return None
            if demand.cpus > cpus + _LOOSE or demand.memory > memory:
                return Reason(Code.QUOTA_KEPT, name)
        return None

    def _place_unplaced(self) -> None:
        """Give the jobs that the swarm has not placed yet their room before any other."""
        if not self._snapshot.unplaced:
            return
        room, reservations = self._room, self._reservations
        room.kept = reservations.previous_places()
        without: list[tuple[str, Demand, float]] = []
        for job in self._snapshot.unplaced:
            own = reservations.previous(job.id)
            demand = job.key.demand
            place = own if own is not None and room.fits(own, demand) else room.find(demand)
            if place is None:
                without.append((job.id, demand, job.since))
                self._ahead[demand.nodes] = self._ahead.get(demand.nodes, 0) + 1
            else:
                room.put(place, demand)
        room.kept = set()
        room.forget()
        for job_id, demand, since in without:
            reservations.reserve(job_id, demand, since)

    # -- reasons ----------------------------------------------------------------------

    def _drop(self, state: LineState, reason: Reason) -> None:
        state.dead = True
        self._note(state, reason)

    def _note(self, state: LineState, reason: Reason) -> None:
        before = state.line.blocked
        same = before is not None and before.code is reason.code and not state.next
        since = before.since if same and before is not None and before.since is not None else self._now
        self._reasons[state.line.key] = Reason(reason.code, reason.subject, reason.until, since)

    def _order(self, state: LineState) -> Reason:
        before = state.line.blocked
        since = before.since if before is not None and before.code is Code.ORDER and not state.next else None
        return Reason(Code.ORDER, since=self._now if since is None else since)

    def _overdue(self) -> tuple[tuple[Overdue, ...], float | None]:
        """Return the jobs that have waited too long for one reason, and when the next one will have."""
        found, following = list[Overdue](), list[float]()
        limited = {name for name, rules in self._rules.queues.items() if rules.wait_limits}
        for state in self._states if limited else ():
            if state.line.key.queue not in limited:
                continue
            reason = self._reasons.get(state.line.key) or self._order(state)
            seconds = self._rules.queues[state.line.key.queue].wait_limits.get(reason.code)
            if reason.since is None or seconds is None:
                continue
            for job in state.line.jobs[state.next :]:
                at = max(reason.since, job.since) + seconds
                if at > self._now:
                    following.append(at)
                    break
                found.append(Overdue(job.id, state.line.key, reason, seconds))
        return tuple(found), min(following, default=None)

    def _next_at(self, next_overdue: float | None) -> float | None:
        times = [reason.until for reason in self._reasons.values() if reason.until is not None]
        if next_overdue is not None:
            times.append(next_overdue)
        return min(times, default=None)


_NO_NODE: Final = PRECEDENCE[Code.NO_NODE]
_NO_ROOM: Final = frozenset({Code.CAPACITY, Code.RESERVED})
_CAPACITY: Final = Reason(Code.CAPACITY)
_NOTHING: Final = Demand()
_LOOSE: Final = 1e-9
