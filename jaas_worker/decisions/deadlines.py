"""PURE: the time limits of an attempt in flight, and which of them has passed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from math import inf
from typing import Final

from jaas_submit.model.job_spec import JobSpec

__all__ = ["NO_DEADLINES", "Deadlines", "Overdue", "due"]

_LOST_AFTER_S = 60.0
"""How long a node must be down before on_node_lost retry or fail acts, unless the job says otherwise."""


class Overdue(Enum):
    """What has taken too long."""

    STOP = auto()  # the container was asked to stop, and has not exited
    JOB = auto()  # the whole job: `deadline`
    RUN = auto()  # the container runs: `run_timeout`
    LOST = auto()  # its node is down: `lost_after`
    START = auto()  # no container runs yet: `pending_timeout`


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Time limits of an attempt by the monotonic clock, infinite if there is none.

    Frozen, so that any thread may read them at any time; a change creates new ones.
    """

    job: float = inf
    """When the whole job must have ended."""
    start: float = inf
    """When a container must run."""
    run: float = inf
    """When the container must have ended, once it was seen to run."""
    lost: float = inf
    """When a node that is down has been down for too long."""
    stop: float = inf
    """When a stopped container must have exited."""
    may_run: float = inf
    """Seconds that the container may run from the moment when this worker first sees it run."""
    first: float = field(init=False, default=inf)
    """Before this moment no limit has passed: the only comparison that most jobs need."""

    def __post_init__(self) -> None:
        first = self.stop if self.stop < inf else min(self.job, self.start, self.run, self.lost)
        object.__setattr__(self, "first", first)

    def launched(self, spec: JobSpec, at: float, ran_before: float = 0.0) -> Deadlines:
        """Return the deadlines of an attempt whose service exists.

        Args:
            spec: the job's description.
            at: when the service was created, by the monotonic clock; ``pending_timeout`` counts from the claim if that
                is known.
            ran_before: seconds that the container had run when this worker took the job over.
        """
        start = inf if spec.pending_timeout is None else min(self.start, at + spec.pending_timeout)
        may_run = inf if spec.run_timeout is None else spec.run_timeout - ran_before
        return _shared(Deadlines(job=self.job, start=start, may_run=may_run))

    def running(self, now: float) -> Deadlines:
        """Return them for a container that was seen to run; also for one whose node is back."""
        return _shared(replace(self, start=inf, lost=inf, run=min(self.run, now + self.may_run)))

    def node_lost(self, spec: JobSpec, now: float, ran_since: float | None) -> Deadlines:
        """Return them for a container whose node is down.

        Args:
            spec: the job's description.
            now: when that was seen.
            ran_since: when this worker took over a job whose container ran by then; None if it saw that itself, or if
                the container has not run yet.
        """
        patience = spec.lost_after or (inf if spec.on_node_lost == "wait" else _LOST_AFTER_S)
        run = self.run if ran_since is None else min(self.run, ran_since + self.may_run)
        return replace(self, start=inf, lost=now + patience, run=run)

    def stopping(self, spec: JobSpec, now: float, stop_timeout: float) -> Deadlines:
        """Return them for a container that was asked to stop just now.

        Args:
            spec: the job's description.
            now: the present moment.
            stop_timeout: seconds beyond ``stop_grace`` that a stop may take.
        """
        return replace(self, stop=now + spec.stop_grace + stop_timeout)


NO_DEADLINES: Final = Deadlines()


def _shared(deadlines: Deadlines) -> Deadlines:
    """Return one shared object for all attempts without deadlines, to save memory."""
    return NO_DEADLINES if deadlines == NO_DEADLINES else deadlines


def due(deadlines: Deadlines, now: float) -> Overdue | None:
    """Return the limit that has passed; None if none has.

    Args:
        deadlines: of the attempt.
        now: the present moment, by the monotonic clock.
    """
    if now <= deadlines.first:
        return None
    if deadlines.stop < inf:  # from then on nothing else matters
        return Overdue.STOP
    if now > deadlines.job:
        return Overdue.JOB
    if now > deadlines.run:
        return Overdue.RUN
    return Overdue.LOST if now > deadlines.lost else Overdue.START
