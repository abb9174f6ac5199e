"""PURE: what a tenant or a queue holds and recently used, and the number by which fair share compares it.

Use is counted in core seconds and byte seconds of memory, and decays: after ``half_life`` it counts half. What is held
counts from the admission on, as if it had been held for long: someone who holds a core steadily has used
``half_life / ln 2`` core seconds, so each held core counts as that many at once. A burst is therefore charged before
its first job has run for a second.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["LEAST_CPUS", "Use"]

LEAST_CPUS: Final = 0.1
"""Cores for which every job counts at least: many jobs that reserve nothing are not free."""

_LN2: Final = math.log(2)


class Use:
    """What one tenant or queue holds and used, with the time of the last change.

    The numbers are public, as the ledger keeps them in a hash; only ``hold`` and ``let_go`` change them.
    """

    __slots__ = ("at", "cpus", "jobs", "memory", "used_cpus", "used_memory")

    def __init__(
        self,
        jobs: int = 0,
        cpus: float = 0.0,
        memory: float = 0.0,
        used_cpus: float = 0.0,
        used_memory: float = 0.0,
        at: float = 0.0,
    ) -> None:
        self.jobs = jobs
        """Jobs in flight."""
        self.cpus = cpus
        """Cores that they reserve, each job with 0.1 at least."""
        self.memory = memory
        """Bytes of memory that they reserve."""
        self.used_cpus = used_cpus
        """Core seconds used until ``at``, decayed."""
        self.used_memory = used_memory
        """Byte seconds used until ``at``, decayed."""
        self.at = at
        """Time of the last change, in seconds since the epoch."""

    def __repr__(self) -> str:
        return f"Use({', '.join(f'{name}={getattr(self, name):g}' for name in self.__slots__)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Use) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def copy(self) -> Use:
        """Return an equal one that changes apart."""
        return Use(self.jobs, self.cpus, self.memory, self.used_cpus, self.used_memory, self.at)

    def advance(self, now: float, half_life: float) -> None:
        """Bring what was used up to a time; nothing happens if that is past."""
        passed = now - self.at
        if passed <= 0:
            return
        kept = 0.5 ** (passed / half_life)
        grown = (1 - kept) * half_life / _LN2
        self.used_cpus = self.used_cpus * kept + self.cpus * grown
        self.used_memory = self.used_memory * kept + self.memory * grown
        self.at = now

    def hold(self, cpus: float, memory: float, now: float, half_life: float) -> None:
        """Charge a job that is admitted."""
        self.advance(now, half_life)
        self.jobs += 1
        self.cpus += max(cpus, LEAST_CPUS)
        self.memory += memory

    def let_go(self, cpus: float, memory: float, now: float, half_life: float) -> None:
        """Take a job off that has ended; what it used stays, and decays."""
        self.advance(now, half_life)
        self.jobs -= 1
        # Sums of fractions do not come out even: an empty one is empty.
        self.cpus = max(self.cpus - max(cpus, LEAST_CPUS), 0.0) if self.jobs > 0 else 0.0
        self.memory = max(self.memory - memory, 0.0) if self.jobs > 0 else 0.0

    def part(self, now: float, half_life: float, all_cpus: float, all_memory: float) -> float:
        """Return which part of the cluster it holds and recently used: of cores or memory, whichever is more.

        Args:
            now: at this time.
            half_life: as for ``advance``.
            all_cpus: cores of the cluster.
            all_memory: bytes of the cluster.
        """
        kept = 0.5 ** (max(now - self.at, 0.0) / half_life)
        # Used until now, plus what is held now as if it had been held for long.
        steady = (2 - kept) * half_life / _LN2
        cpus = self.used_cpus * kept + self.cpus * steady
        memory = self.used_memory * kept + self.memory * steady
        return max(cpus / all_cpus if all_cpus else 0.0, memory / all_memory if all_memory else 0.0)
