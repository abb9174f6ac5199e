"""What the worker needs of a swarm engine and sees there. docker_engine.py is the real one; the tests have a fake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from jaas_submit.model.cluster import Cluster

__all__ = [
    "ENDED_STATES",
    "ContainerTimes",
    "Engine",
    "EngineEvent",
    "Frame",
    "ResolvedImage",
    "ServiceView",
    "SwarmInfo",
    "TaskView",
]

ENDED_STATES = frozenset({"complete", "failed", "shutdown", "rejected", "orphaned", "remove"})
"""Task states from which none returns. Source: moby/swarmkit, api/types.proto, TaskState."""


class TaskView(NamedTuple):
    """One task as ``GET /tasks`` shows it."""

    id: str
    service_id: str
    created_at: str
    desired: str
    state: str
    node_id: str = ""
    message: str = ""
    error: str = ""
    timestamp: str = ""
    container_id: str | None = None
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the task will not change any more."""
        return self.state in ENDED_STATES


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service."""

    id: str
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    created_at: str = ""
    env: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class SwarmInfo:
    """What the engine says about itself."""

    engine_version: str
    api_version: str
    node_id: str
    node_name: str
    state: str
    manager: bool
    error: str = ""


class Frame(NamedTuple):
    """A piece of a container's output, with the engine's time in front of the text."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class ContainerTimes(NamedTuple):
    """When a container started and ended (RFC 3339), whether for lack of memory, and how, as its engine says."""

    started_at: str
    finished_at: str
    oom_killed: bool
    exit_code: int | None = None
    """None while it has not ended. A task that was stopped has been seen with 0 where the container had 137."""


class EngineEvent(NamedTuple):
    """A container's start or end on an engine, or a service's removal anywhere in the swarm, as the engine tells it."""

    kind: Literal["start", "die", "remove"]
    service_id: str
    task_id: str = ""
    job_id: str = ""
    """Which job the container says it belongs to; empty where it is no job of jaas."""
    container_id: str = ""
    exit_code: int | None = None
    """Of a container that has ended; its output is complete then."""
    at: str = ""
    """When the engine told it (RFC 3339)."""


class ResolvedImage(NamedTuple):
    """What an image's tag stands for in its registry."""

    pinned: str = ""
    """The reference with the digest, so that every node and every attempt runs the same; empty where none is known."""
    note: str = ""
    """For people: this engine's own image of that tag is another one."""
    platforms: tuple[str, ...] = ()
    """What it runs on, such as ``linux/amd64``, or ``linux/`` for any processor; empty where that is not known."""
    problem: str = ""
    """Why the registry tells nothing."""


class Engine(Protocol):
    """A swarm manager's API, as far as jaas uses it.

    Every method raises EngineUnavailable when the answer is unknown, EngineRefused when the engine says no.
    """

    def info(self) -> SwarmInfo:
        """Return what the engine says about itself."""

    def create(self, request: dict[str, Any], registry: str | None = None) -> ServiceView | None:
        """Create a service; return None when one of that name exists already.

        Args:
            request: body of ``POST /services/create``.
            registry: registry whose credentials go along; None means the one the image's name tells.
        """

    def find(self, name: str) -> ServiceView | None:
        """Return the service of this name; None when there is none."""

    def resolve(self, image: str, registry: str | None = None) -> ResolvedImage:
        """Ask the image's registry what its tag stands for now, and what it runs on.

        Args:
            image: a reference as in a job description.
            registry: registry whose credentials go along; None means the one the image's name tells.
        """

    def services(self, label: str, prefix: str = "") -> list[ServiceView]:
        """Return all services with this label (``key`` or ``key=value``) whose name begins like this."""

    def ended_tasks(self, label: str) -> list[TaskView]:
        """Return the tasks of services with this label that ended or are to end."""

    def all_tasks(self, label: str) -> list[TaskView]:
        """Return all tasks of services with this label."""

    def tasks_of(self, *service_ids: str) -> list[TaskView]:
        """Return the tasks of these services; of one that is gone there are none."""

    def stop(self, service_id: str) -> bool:
        """Have the service's container stopped, keeping its logs and exit code; False when the service is gone."""

    def remove(self, service_id: str) -> bool:
        """Remove a service; False when it was gone already."""

    def create_config(self, name: str, labels: dict[str, str], data: bytes) -> str:
        """Create a swarm config, or find the one that was made so before; return its id.

        Raises:
            EngineRefused: also where one of this name has other labels: it is somebody else's.
        """

    def configs(self, label: str, prefix: str = "") -> dict[str, dict[str, str]]:
        """Return name -> labels of all configs with this label whose name begins like this."""

    def remove_config(self, name: str, labels: Mapping[str, str]) -> bool:
        """Remove the config of this name if it has these labels; False when there is none (any more)."""

    def secret_ids(self, names: list[str]) -> dict[str, str]:
        """Return name -> id of those of the secrets that exist."""

    def node_names(self) -> dict[str, str]:
        """Return node id -> host name."""

    def cluster(self) -> Cluster:
        """Return the swarm's nodes, with what running tasks leave free on each."""

    def down_nodes(self) -> set[str]:
        """Return the ids of the nodes that the swarm has lost sight of."""

    def node_back_at(self, node_id: str) -> str:
        """Return when what the swarm knows of a node last changed (RFC 3339), as it does when its engine joins anew.

        Empty when there is no such node.
        """

    def container_times(self, container_id: str) -> ContainerTimes | None:
        """Return a container's times; None when it did not run on this engine."""

    def logs(self, service_id: str, container_id: str | None, timeout: float) -> Iterator[Frame]:
        """Yield a task's output, with timestamps; ends with EngineUnavailable when ``timeout`` seconds are over."""

    def events(self) -> Iterator[EngineEvent]:
        """Yield events as they come, for ever; ends with EngineUnavailable when the connection breaks."""
