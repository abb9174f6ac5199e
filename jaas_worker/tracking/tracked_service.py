"""A followed service, and what can be seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaas_submit.model.wire_names import service_name
from jaas_worker.decisions.end_belief import Evidence
from jaas_worker.swarm.engine import TaskView

__all__ = ["Ended", "ExitReported", "Gone", "NodeLost", "Running", "Seen", "ServiceRef", "TrackedService", "Waiting"]


class ServiceRef(NamedTuple):
    """The service of an attempt, safe for all threads."""

    job_id: str
    attempt: int
    id: str
    label: str
    """Selects the services of the worker that created this one; empty if it has no such label."""
    health_checked: bool = False
    """The swarm may stop the container because of its health check."""

    @property
    def name(self) -> str:
        """Its name in the swarm, computed each time to save memory."""
        return service_name(self.job_id, self.attempt)


@dataclass(slots=True, eq=False)
class TrackedService:
    """The tracker's data about a service. No other part reads or writes it."""

    ref: ServiceRef
    began: str = ""
    """When the container started, by an event of this worker's engine (RFC 3339); empty without such an event."""
    stopping: bool = False
    """jaas asked for the container's end."""
    has_run: bool = False
    """The listener knows that the container runs or ran."""
    node_lost: bool = False
    """The listener knows that the node is down."""
    prepares_since: float | None = None
    """When its node was first seen to get the container ready, by the monotonic clock."""
    task_seen: bool = False
    """The swarm has shown a task of the service."""
    missing_since: float | None = None
    """When the swarm first showed no task of the service, by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The task does not run yet."""

    task: TaskView
    starting: bool
    """A node is starting it."""


@dataclass(frozen=True, slots=True)
class Running:
    """The container runs."""

    task: TaskView


@dataclass(frozen=True, slots=True)
class NodeLost:
    """The task's node is down, so the container's state is unknown."""

    task: TaskView


@dataclass(frozen=True, slots=True)
class ExitReported:
    """An engine reports that the container has exited; the swarm does not report it yet."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Ended:
    """The task has ended."""

    task: TaskView


@dataclass(frozen=True, slots=True)
class Gone:
    """The service does not exist any more."""


Seen = Waiting | Running | NodeLost | ExitReported | Ended | Gone
"""What the tracker can report about a service."""
