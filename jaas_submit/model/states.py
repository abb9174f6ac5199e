"""The states of a job and the transitions between them. docs/state-machine.md is checked against this module."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

__all__ = ["TERMINAL", "TRANSITIONS", "JobState", "is_known", "is_terminal", "read_as"]

E = TypeVar("E", bound=StrEnum)


class JobState(StrEnum):
    """The states. Each comment names the process that moves a job *into* the state."""

    # The producer, when it comes after other jobs, or its batch has as many active ones as it may.
    WAITING = "WAITING"
    # The producer (or, for a message without a record, the first worker that receives it); out of WAITING, the process
    # that ends the last job that it waited for.
    QUEUED = "QUEUED"
    # The worker that claims the job: from here on it has a holder.
    LAUNCHING = "LAUNCHING"
    # The holder, once the service exists in the swarm.
    PENDING = "PENDING"
    # The holder, once the swarm reports the container as running.
    RUNNING = "RUNNING"
    # The holder, when an attempt failed and the retry policy grants another, or the job's copy may still succeed; the
    # job has no holder until then.
    BACKOFF = "BACKOFF"
    # The holder, when the container exited with 0; or the process that records the success of the job's copy.
    SUCCEEDED = "SUCCEEDED"
    # The holder, when the job ended in any other way, or could not start; a worker, when a time limit passed before
    # that; the process that ends the job's copy, when the job itself had failed before.
    FAILED = "FAILED"
    # The producer for a job without a holder, otherwise the holder.
    CANCELLED = "CANCELLED"
    # The process that ends a job or batch before it, when the condition of ``after`` cannot be met any more.
    SKIPPED = "SKIPPED"

    @property
    def is_terminal(self) -> bool:
        """Whether a job in this state has ended for good."""
        return self in TERMINAL


TERMINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED})

TRANSITIONS: Final[dict[JobState, frozenset[JobState]]] = {
    # FAILED without a launch: its time limit passed before it was started.
    JobState.WAITING: frozenset({JobState.QUEUED, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED}),
    JobState.QUEUED: frozenset({JobState.LAUNCHING, JobState.FAILED, JobState.CANCELLED}),
    # SUCCEEDED by its copy (speculation), which may happen in any state but the first ones.
    JobState.LAUNCHING: frozenset(
        {JobState.PENDING, JobState.BACKOFF, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    # A short container may exit before it was seen running.
    JobState.PENDING: frozenset(
        {JobState.RUNNING, JobState.BACKOFF, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.RUNNING: frozenset({JobState.BACKOFF, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    # Claimed by any worker when the next attempt is due. One that waits for its copy ends with it.
    JobState.BACKOFF: frozenset({JobState.LAUNCHING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.SKIPPED: frozenset(),
}


def is_terminal(state: JobState) -> bool:
    """Return whether a job in this state has ended for good."""
    return state in TERMINAL


def read_as(kind: type[E], text: str) -> E:
    """Return the member of an enumeration that a stored text names.

    A text that this version does not know was written by a newer one, in the middle of an update: it becomes a value
    that equals no member and is shown as that text. Users' input is checked strictly elsewhere.

    Args:
        kind: the enumeration.
        text: its value, as it is stored.
    """
    try:
        return kind(text)
    except ValueError:
        unknown_value = str.__new__(kind, text)
        unknown_value._name_ = unknown_value._value_ = text
        return unknown_value


def is_known(value: StrEnum) -> bool:
    """Return whether this version knows a value that ``read_as`` returned."""
    return value.name in type(value).__members__
