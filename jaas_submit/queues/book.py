"""PURE: what is in flight, counted as limits and shares need it, and the one rule by which a job may be added.

``admit`` plans on a copy of it. ``try_hold`` is also the condition under which the ledger's script applies an
admission, so the limits hold at every instant, whatever plan a worker made of an older snapshot.
"""

from __future__ import annotations

from typing import Final

from jaas_submit.queues.demand import Demand
from jaas_submit.queues.reasons import Code, Reason
from jaas_submit.queues.rules import QueueRules, Rules, TenantRules
from jaas_submit.queues.shares import LEAST_CPUS, Use

__all__ = ["Book", "limit_on", "within_quota"]

_PLAIN: Final = TenantRules()
_LOOSE: Final = 1e-9
"""Sums of fractions may be off by this."""


class Book:
    """Counts of what is in flight. The ledger keeps each dictionary in a hash."""

    __slots__ = ("age_credit", "groups", "queues", "rates", "singletons", "tenants")

    def __init__(self) -> None:
        self.queues: dict[str, Use] = {}
        """Queue -> what its jobs hold and used."""
        self.tenants: dict[str, Use] = {}
        """Tenant -> what its jobs hold and used, in all queues."""
        self.groups: dict[str, int] = {}
        """Group -> how much of it is held."""
        self.singletons: dict[str, str] = {}
        """Singleton key -> the id of the active job."""
        self.rates: dict[str, float] = {}
        """Rate key -> when its next start is due (see ``Rate``)."""
        self.age_credit = 0.0
        """How many starts are owed to old jobs."""

    @property
    def owes_age(self) -> bool:
        """Whether the next start is that of the oldest of the old jobs, if there are any."""
        return self.age_credit >= 1.0 - _LOOSE

    def copy(self) -> Book:
        """Return an equal one that changes apart."""
        other = Book()
        other.queues = {name: use.copy() for name, use in self.queues.items()}
        other.tenants = {name: use.copy() for name, use in self.tenants.items()}
        other.groups = dict(self.groups)
        other.singletons = dict(self.singletons)
        other.rates = dict(self.rates)
        other.age_credit = self.age_credit
        return other

    def try_hold(
        self, rules: Rules, queue: str, tenant: str, demand: Demand, job_id: str, now: float, *, by_age: bool = False
    ) -> Reason | None:
        """Add a job, unless a limit forbids it.

        Args:
            rules: what the operator says now.
            queue: the job's queue.
            tenant: its tenant.
            demand: what it asks for.
            job_id: its id.
            now: the time.
            by_age: whether it is started because it is old.

        Returns:
            The limit; None if the job was added.
        """
        reason = limit_on(self, rules, queue, tenant, demand, now)
        if reason is None:
            self.hold(rules, queue, tenant, demand, job_id, now, by_age=by_age)
        return reason

    def hold(
        self, rules: Rules, queue: str, tenant: str, demand: Demand, job_id: str, now: float, *, by_age: bool = False
    ) -> None:
        """Add a job without asking for limits; see ``try_hold``."""
        paid = 1.0 if by_age and self.owes_age else 0.0  # two workers may have planned the same start
        _use_of(self.queues, queue, now).hold(demand.cpus, demand.memory, now, rules.half_life)
        _use_of(self.tenants, tenant, now).hold(demand.cpus, demand.memory, now, rules.half_life)
        for name, weight in demand.groups:
            self.groups[name] = self.groups.get(name, 0) + weight
        for key, rate in demand.rates:
            self.rates[key] = rate.after_start(self.rates.get(key, 0.0), now)
        if demand.singleton:
            self.singletons[demand.singleton] = job_id
        self.age_credit = min(self.age_credit + rules.age_share - paid, 1.0)

    def let_go(self, rules: Rules, queue: str, tenant: str, demand: Demand, job_id: str, now: float) -> None:
        """Take a job off that has ended, or whose holder is gone; see ``try_hold`` for the arguments.

        What it used stays with its tenant and queue, and its starts stay counted by its rates.
        """
        _use_of(self.queues, queue, now).let_go(demand.cpus, demand.memory, now, rules.half_life)
        _use_of(self.tenants, tenant, now).let_go(demand.cpus, demand.memory, now, rules.half_life)
        for name, weight in demand.groups:
            self.groups[name] = self.groups.get(name, 0) - weight
        if self.singletons.get(demand.singleton) == job_id:
            del self.singletons[demand.singleton]


def _use_of(uses: dict[str, Use], name: str, now: float) -> Use:
    use = uses.get(name)
    if use is None:
        use = uses[name] = Use(at=now)
    return use


def limit_on(book: Book, rules: Rules, queue: str, tenant: str, demand: Demand, now: float) -> Reason | None:
    """Return the first limit that forbids a job to start; None if none does. Room on nodes is no limit.

    Args:
        book: what is in flight.
        rules: what the operator says.
        queue: the job's queue.
        tenant: its tenant.
        demand: what it asks for.
        now: the time.
    """
    its_queue = rules.queues.get(queue)
    if its_queue is None:
        return Reason(Code.QUEUE_UNKNOWN, queue)
    if its_queue.paused:
        return Reason(Code.QUEUE_PAUSED, queue)
    return (
        (_impossible_group(rules, demand) if demand.groups else None)
        or _full(book, queue, its_queue, tenant, rules.tenants.get(tenant, _PLAIN), demand)
        or (_key_taken(book, rules, demand, now) if demand.groups or demand.singleton or demand.rates else None)
    )


def _impossible_group(rules: Rules, demand: Demand) -> Reason | None:
    for name, _ in demand.groups:
        if name not in rules.groups:
            return Reason(Code.GROUP_UNKNOWN, name)
    for name, weight in demand.groups:
        if weight > rules.groups[name].capacity:
            return Reason(Code.GROUP_TOO_SMALL, name)
    return None


def _full(
    book: Book, queue: str, its_queue: QueueRules, tenant: str, its_tenant: TenantRules, demand: Demand
) -> Reason | None:
    if its_queue.max_in_flight is not None:
        use = book.queues.get(queue)
        if (use.jobs if use else 0) >= its_queue.max_in_flight:
            return Reason(Code.QUEUE_FULL, queue)
    if its_tenant is _PLAIN:
        return None
    use = book.tenants.get(tenant)
    if its_tenant.max_in_flight is not None and (use.jobs if use else 0) >= its_tenant.max_in_flight:
        return Reason(Code.TENANT_FULL, tenant)
    if not its_tenant.borrow and not within_quota(its_tenant, use, demand):
        return Reason(Code.QUOTA, tenant)
    return None


def _key_taken(book: Book, rules: Rules, demand: Demand, now: float) -> Reason | None:
    for name, weight in demand.groups:
        if book.groups.get(name, 0) + weight > rules.groups[name].capacity:
            return Reason(Code.GROUP_FULL, name)
    if demand.singleton and demand.singleton in book.singletons:
        return Reason(Code.SINGLETON, demand.singleton)
    latest, key_of_latest = now, ""
    for key, rate in demand.rates:
        allowed = rate.allowed_at(book.rates.get(key, 0.0))
        if allowed > latest:
            latest, key_of_latest = allowed, key
    return Reason(Code.RATE, key_of_latest, until=latest) if key_of_latest else None


def within_quota(rules: TenantRules, use: Use | None, demand: Demand) -> bool:
    """Return whether a tenant stays within its quota with one more job; one without a quota does not.

    Args:
        rules: the tenant's.
        use: what it holds; None for nothing.
        demand: what the job asks for.
    """
    cpus, memory = (use.cpus, use.memory) if use else (0.0, 0.0)
    if rules.quota_cpus is not None and cpus + max(demand.cpus, LEAST_CPUS) > rules.quota_cpus + _LOOSE:
        return False
    if rules.quota_memory is not None and memory + demand.memory > rules.quota_memory:
        return False
    return rules.has_quota
