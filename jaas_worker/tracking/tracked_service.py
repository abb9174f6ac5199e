"""A service that is followed, and what can be seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaas_submit.model.wire_names import service_name
from jaas_worker.decisions.end_belief import Evidence
from jaas_worker.swarm.engine import TaskView

__all__ = ["Ended", "ExitReported", "Gone", "NodeLost", "Running", "Seen", "ServiceRef", "TrackedService", "Waiting"]


class ServiceRef(NamedTuple):
    """The service of an attempt, as all threads may know it."""

    job_id: str
    attempt: int
    id: str
    label: str
    """Selects the services of the worker that asked for this one; empty where it has no such label."""
    health_checked: bool = False
    """The swarm may end the container for its health."""

    @property
    def name(self) -> str:
        """Its name in the swarm; there may be very many, so that it is not kept."""
        return service_name(self.job_id, self.attempt)


@dataclass(slots=True, eq=False)
class TrackedService:
    """What the tracker keeps of a service that it follows. Nobody else writes here, or reads."""

    ref: ServiceRef
    began: str = ""
    """When the container started, by an event of this worker's engine (RFC 3339); empty where none has told."""
    stopping: bool = False
    """jaas asked for the container's end."""
    has_run: bool = False
    """The listener knows that the container runs or ran."""
    node_lost: bool = False
    """The listener knows that the node is down."""
    task_seen: bool = False
    """The swarm has shown a task of the service."""
    missing_since: float | None = None
    """When the swarm first showed no task of the service, by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The task does not run yet."""

    task: TaskView
    starting: bool
    """A node is at it."""


@dataclass(frozen=True, slots=True)
class Running:
    """The container runs."""

    task: TaskView


@dataclass(frozen=True, slots=True)
class NodeLost:
    """The task's node is down, and with it all knowledge of the container."""

    task: TaskView


@dataclass(frozen=True, slots=True)
class ExitReported:
    """An engine says that the container has ended; the swarm does not say so yet."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Ended:
    """The task has ended."""

    task: TaskView


@dataclass(frozen=True, slots=True)
class Gone:
    """The service does not exist any more."""


Seen = Waiting | Running | NodeLost | ExitReported | Ended | Gone
"""What the tracker can say of a service."""
