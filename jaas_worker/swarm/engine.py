"""The interface of a swarm engine. docker_engine.py is the real one; the tests have a fake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from jaas_submit.model.logs import Stream

if TYPE_CHECKING:  # an agent has no pydantic
    from jaas_submit.model.cluster import Cluster, Node
    from jaas_submit.model.usage.used import Used
    from jaas_submit.policy.facts import NetworkFacts, Reference

__all__ = [
    "ENDED_STATES",
    "TOO_LONG",
    "ContainerRef",
    "ContainerTimes",
    "Engine",
    "EngineEvent",
    "Frame",
    "NodeChange",
    "ResolvedImage",
    "ServiceView",
    "SwarmInfo",
    "TaskView",
]

TOO_LONG: Final = 507
"""The status with which a socket proxy tells that the engine's answer is too long to be looked into."""

ENDED_STATES = frozenset({"complete", "failed", "shutdown", "rejected", "orphaned", "remove"})
"""Final task states. Source: moby/swarmkit, api/types.proto, TaskState."""


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
    """The engine's report about itself."""

    engine_version: str
    api_version: str
    node_id: str
    node_name: str
    state: str
    manager: bool
    error: str = ""
    log_driver: str = ""
    """What keeps the output of its containers, unless they say otherwise: ``json-file``; ``none`` keeps nothing."""


class Frame(NamedTuple):
    """A piece of a container's output, with the engine's time in front of the text."""

    stream: Stream
    data: bytes


class ContainerRef(NamedTuple):
    """A container of a job, and whose it is."""

    id: str
    job_id: str
    attempt: int
    service_id: str = ""
    task_id: str = ""
    scrubbed: bool = False
    """Known values are to be replaced in its output."""


class ContainerTimes(NamedTuple):
    """When a container started and exited (RFC 3339), its exit code, and whether it ran out of memory, by its
    engine."""

    started_at: str
    finished_at: str
    oom_killed: bool
    exit_code: int | None = None
    """None while it runs. For a stopped task 0 was seen although the container had 137."""
    heard: bool | None = None
    """Whether its engine told the node's agent of the exit when it happened; None where that is not known."""
    usage: Used | None = None
    """What it used, if the agent of its node has measured it."""


class NodeChange(NamedTuple):
    """The last change of the swarm's record of a node."""

    at: str = ""
    """RFC 3339; empty when there is no such node. The swarm changes the record when the node's engine rejoins."""
    drained: bool = False
    """Whether the node takes no tasks now, because somebody drained it."""


class EngineEvent(NamedTuple):
    """An engine's event: a container's start or exit, or a service's removal anywhere in the swarm."""

    kind: Literal["start", "die", "remove"]
    service_id: str
    task_id: str = ""
    job_id: str = ""
    """The job in the container's labels; empty if it is no job of jaas."""
    container_id: str = ""
    exit_code: int | None = None
    """Of a container that has exited; its output is complete then."""
    at: str = ""
    """The event's time (RFC 3339)."""
    node_id: str = ""
    """The swarm's id of the node whose agent forwarded it; empty for an event of this process' own engine."""


class ResolvedImage(NamedTuple):
    """The image that a tag stands for in its registry."""

    pinned: str = ""
    """The reference with the digest, so that every node and every attempt runs the same; empty where none is known."""
    note: str = ""
    """For people: this engine's own image of that tag is another one."""
    platforms: tuple[str, ...] = ()
    """What it runs on, such as ``linux/amd64``, or ``linux/`` for any processor; empty where that is not known."""
    problem: str = ""
    """Why the registry tells nothing."""


class Engine(Protocol):
    """The part of a swarm manager's API that jaas uses.

    Every method raises EngineUnavailable when the answer is unknown, EngineRefused when the engine refuses.
    """

    def info(self) -> SwarmInfo:
        """Return what the engine says about itself."""

    def create(self, request: dict[str, Any], registry: str | None = None) -> ServiceView | None:
        """Create a service; return None when one of that name exists already.

        Args:
            request: body of ``POST /services/create``.
            registry: registry whose credentials are sent; None means the one in the image's name.
        """

    def find(self, name: str) -> ServiceView | None:
        """Return the service with this name; None if there is none."""

    def resolve(self, image: str, registry: str | None = None) -> ResolvedImage:
        """Ask the image's registry what its tag stands for now, and what it runs on.

        Args:
            image: a reference as in a job description.
            registry: registry whose credentials are sent; None means the one in the image's name.
        """

    def services(self, label: str, prefix: str = "") -> list[ServiceView]:
        """Return all services with this label (``key`` or ``key=value``) whose name begins like this."""

    def ended_tasks(self, label: str) -> list[TaskView]:
        """Return the tasks of services with this label that have ended or should end."""

    def all_tasks(self, label: str) -> list[TaskView]:
        """Return all tasks of services with this label."""

    def tasks_of(self, *service_ids: str) -> list[TaskView]:
        """Return the tasks of these services; a removed one has none."""

    def stop(self, service_id: str) -> bool:
        """Stop the service's container, keeping its logs and exit code; False if the service is gone."""

    def remove(self, service_id: str) -> bool:
        """Remove a service; False if it was already gone."""

    def create_config(self, name: str, labels: dict[str, str], data: bytes) -> str:
        """Create a swarm config, or find the one that was made so before; return its id.

        Raises:
            EngineRefused: also where one of this name has other labels: it is somebody else's.
        """

    def configs(self, label: str, prefix: str = "", most_bytes: int = 0) -> dict[str, dict[str, str]]:
        """Return name -> labels of all configs with this label whose name begins like this.

        Args:
            label: as ``name`` or ``name=value``.
            prefix: what the names begin with.
            most_bytes: of the engine's answer, which has the configs' contents; 0 means any length.

        Raises:
            AnswerTooLong: it has more.
        """

    def remove_config(self, name: str, labels: Mapping[str, str]) -> bool:
        """Remove the config of this name if it has these labels; False when there is none (any more)."""

    def secret_ids(self, names: list[str]) -> dict[str, str]:
        """Return name -> id of the existing ones of the secrets."""

    def config_ids(self, names: list[str]) -> dict[str, str]:
        """Return name -> id of the existing ones of the configs."""

    def references(self, kind: Literal["secrets", "configs"], ids: list[str]) -> dict[str, Reference]:
        """Return id -> name and labels of the existing ones of these secrets or configs.

        Args:
            kind: which of both.
            ids: their ids.
        """

    def network(self, name: str) -> NetworkFacts | None:
        """Return what a network is; None if there is none of this name or id."""

    def request_of(self, service: str) -> dict[str, Any] | None:
        """Return the request that a service was made from, as the engine tells it; None if there is no such service.

        Args:
            service: its id or name.
        """

    def node_facts(self) -> tuple[Node, ...]:
        """Return the swarm's nodes; their free resources are left out, which ``cluster`` counts."""

    def node_names(self) -> dict[str, str]:
        """Return node id -> host name."""

    def cluster(self) -> Cluster:
        """Return the swarm's nodes, with the free resources of each."""

    def down_nodes(self) -> set[str]:
        """Return the ids of the nodes that are down."""

    def node_change(self, node_id: str) -> NodeChange:
        """Return the last change of the swarm's record of a node."""

    def container_times(self, container_id: str) -> ContainerTimes | None:
        """Return a container's times; None when it did not run on this engine."""

    def logs(
        self, service_id: str, container_id: str | None, timeout: float, tail: int = 0, only: Stream | None = None
    ) -> Iterator[Frame]:
        """Yield a task's output, with timestamps; ends with EngineUnavailable when ``timeout`` seconds are over.

        Args:
            service_id: the task's service.
            container_id: the task's container; None asks the swarm for that of any node.
            timeout: seconds.
            tail: only so many of the last lines; 0 means all.
            only: of these, those of one stream alone.
        """

    def events(self) -> Iterator[EngineEvent]:
        """Yield events as they arrive, for ever; ends with EngineUnavailable when the connection breaks."""
