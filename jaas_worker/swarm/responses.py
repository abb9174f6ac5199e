"""The engine's answers: of each, the few fields that jaas needs.

There may be ten thousand services and tasks in one answer, of a kilobyte each. With types that name only the needed
fields, a list is read in less than half of the time of ``json.loads`` (``scripts/bench limit``), and no objects are
made of the rest.

Source of the fields: Docker Engine API 1.41, "Service", "Task", "ContainerInspect".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Required

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic needs it up to Python 3.11

from jaas_submit.model.bounds import whole
from jaas_submit.model.cluster import Node
from jaas_submit.model.wire_names import LABEL_JOB
from jaas_submit.policy.facts import NetworkFacts
from jaas_worker.swarm.engine import ContainerTimes, EngineEvent, ServiceView, TaskView

__all__ = [
    "NodeItem",
    "distribution_in",
    "event_in",
    "generic_in",
    "network_in",
    "node_of",
    "nodes_in",
    "service_in",
    "services_in",
    "tasks_in",
    "times_in",
]


class _ContainerStatus(TypedDict, total=False):
    ContainerID: str | None
    ExitCode: int | None


class _Status(TypedDict, total=False):
    State: str
    Message: str
    Err: str
    Timestamp: str
    ContainerStatus: _ContainerStatus | None


class _Task(TypedDict, total=False):
    ID: Required[str]
    ServiceID: str
    CreatedAt: str
    DesiredState: str
    NodeID: str
    Status: _Status


class _ContainerSpec(TypedDict, total=False):
    Env: list[str] | None


class _TaskTemplate(TypedDict, total=False):
    ContainerSpec: _ContainerSpec | None


class _ServiceSpec(TypedDict, total=False):
    Name: Required[str]
    Labels: dict[str, str] | None
    TaskTemplate: _TaskTemplate


class _Service(TypedDict, total=False):
    ID: Required[str]
    CreatedAt: str
    Spec: Required[_ServiceSpec]


class _State(TypedDict, total=False):
    Status: str
    StartedAt: Required[str]
    FinishedAt: Required[str]
    OOMKilled: bool
    ExitCode: int


class _Container(TypedDict):
    State: _State


class NodeItem(TypedDict):
    """What jaas needs of a node in ``GET /nodes``."""

    ID: str
    Spec: dict[str, Any]
    Description: dict[str, Any]
    Status: dict[str, Any]


class _Descriptor(TypedDict):
    digest: str


class _Platform(TypedDict, total=False):
    architecture: str
    os: str


class _Distribution(TypedDict, total=False):
    Descriptor: Required[_Descriptor]
    Platforms: list[_Platform] | None


class _Network(TypedDict, total=False):
    Id: Required[str]
    Name: Required[str]
    Driver: str
    Scope: str
    Attachable: bool
    Labels: dict[str, str] | None


_TASKS: Final = TypeAdapter(list[_Task] | None)
_SERVICES: Final = TypeAdapter(list[_Service] | None)
_SERVICE: Final = TypeAdapter(_Service)
_CONTAINER: Final = TypeAdapter(_Container)
_DISTRIBUTION: Final = TypeAdapter(_Distribution)
_NODES: Final = TypeAdapter(list[NodeItem] | None)
_NETWORK: Final = TypeAdapter(_Network)


def tasks_in(answer: bytes) -> list[TaskView]:
    """Return the tasks in the answer to ``GET /tasks``."""
    return [_task(item) for item in _TASKS.validate_json(answer) or ()]


def _task(item: _Task) -> TaskView:
    status = item.get("Status", {})
    container = status.get("ContainerStatus") or {}
    return TaskView(
        item["ID"],
        item.get("ServiceID", ""),
        item.get("CreatedAt", ""),
        item.get("DesiredState", ""),
        status.get("State", "new"),
        item.get("NodeID", ""),
        status.get("Message", ""),
        status.get("Err", ""),
        status.get("Timestamp", ""),
        container.get("ContainerID") or None,
        container.get("ExitCode"),
    )


def services_in(answer: bytes) -> list[ServiceView]:
    """Return the services in the answer to ``GET /services``."""
    return [_service(item) for item in _SERVICES.validate_json(answer) or ()]


def service_in(answer: bytes) -> ServiceView:
    """Return the service in the answer to ``GET /services/{id}``."""
    return _service(_SERVICE.validate_json(answer))


def _service(item: _Service) -> ServiceView:
    spec = item["Spec"]
    container = spec.get("TaskTemplate", {}).get("ContainerSpec") or {}
    env = container.get("Env") or ()
    return ServiceView(item["ID"], spec["Name"], spec.get("Labels") or {}, item.get("CreatedAt", ""), tuple(env))


def times_in(answer: bytes) -> ContainerTimes:
    """Return when a container started and exited, from the answer to ``GET /containers/{id}/json``."""
    state = _CONTAINER.validate_json(answer)["State"]
    ended = state.get("Status") in {"exited", "dead"} and not state["StartedAt"].startswith("0001-")
    return ContainerTimes(
        state["StartedAt"],
        state["FinishedAt"],
        bool(state.get("OOMKilled")),
        state.get("ExitCode") if ended else None,
    )


def nodes_in(answer: bytes) -> list[NodeItem]:
    """Return the nodes in the answer to ``GET /nodes``."""
    return _NODES.validate_json(answer) or []


def network_in(answer: bytes) -> NetworkFacts:
    """Return the network in the answer to ``GET /networks/{id}``."""
    item = _NETWORK.validate_json(answer)
    return NetworkFacts(
        item["Id"],
        item["Name"],
        item.get("Driver", ""),
        item.get("Scope", ""),
        item.get("Attachable", False),
        item.get("Labels") or {},
    )


def distribution_in(answer: bytes) -> tuple[str, tuple[str, ...]]:
    """Return digest and platforms of an image, as its registry tells them.

    As ``docker service create`` does it: of ARM only the system counts, as nodes name the variant (``armv7l``) where
    images do not. Source: moby, client/service_create.go.

    Args:
        answer: to ``GET /distribution/{name}/json``.
    """
    found = _DISTRIBUTION.validate_json(answer)
    platforms = [(one.get("os", ""), one.get("architecture", "")) for one in found.get("Platforms") or ()]
    # What builders attach to an image, such as its provenance, is listed as the platform unknown/unknown.
    kept = [f"{os}/{'' if arch.lower() == 'arm' else arch}" for os, arch in platforms if os != "unknown"]
    return found["Descriptor"]["digest"], tuple(dict.fromkeys(kept))


def generic_in(resources: Iterable[Mapping[str, Any]] | None) -> Counter[str]:
    """Return how many generic resources there are of each kind.

    Args:
        resources: ``GenericResources`` of a node or of a task: counts (discrete), or single ones by name.
    """
    found: Counter[str] = Counter()
    for one in resources or ():
        if counted := one.get("DiscreteResourceSpec"):
            found[counted.get("Kind", "")] += counted.get("Value", 0)
        elif named := one.get("NamedResourceSpec"):
            found[named.get("Kind", "")] += 1
    return found


def node_of(item: NodeItem, cpus: float, memory: int, generic: Mapping[str, int] = MappingProxyType({})) -> Node:
    """Return a node as ``GET /nodes`` shows it.

    Args:
        item: the node.
        cpus: processors that its tasks have reserved.
        memory: bytes that they have reserved.
        generic: generic resources that they have reserved, by kind.
    """
    spec, description = item["Spec"], item["Description"]
    has = description.get("Resources", {})
    all_cpus, all_memory = has.get("NanoCPUs", 0) / 1e9, has.get("MemoryBytes", 0)
    all_generic = generic_in(has.get("GenericResources"))
    engine = description.get("Engine", {})
    return Node(
        id=item["ID"],
        hostname=description.get("Hostname", ""),
        role=spec.get("Role", "worker"),
        availability=spec.get("Availability", "active"),
        state=item["Status"]["State"],
        os=description.get("Platform", {}).get("OS", ""),
        arch=description.get("Platform", {}).get("Architecture", ""),
        address=item["Status"].get("Addr", ""),
        labels=spec.get("Labels") or {},
        engine_labels=engine.get("Labels") or {},
        engine_version=engine.get("EngineVersion", ""),
        cpus=all_cpus,
        memory=all_memory,
        free_cpus=all_cpus - cpus,
        free_memory=all_memory - memory,
        generic=dict(all_generic),
        free_generic={kind: count - generic.get(kind, 0) for kind, count in all_generic.items()},
        log_drivers=tuple(one.get("Name", "") for one in engine.get("Plugins") or () if one.get("Type") == "Log"),
    )


def event_in(item: dict[str, Any]) -> EngineEvent | None:
    """Return an event; None for one that jaas ignores.

    Args:
        item: one object of ``GET /events``.
    """
    kind, actor = item.get("Action"), item.get("Actor", {})
    attributes = actor.get("Attributes", {})
    if item.get("Type") == "service":
        return EngineEvent("remove", actor.get("ID", "")) if kind == "remove" else None
    service = attributes.get("com.docker.swarm.service.id")
    if not service or kind not in {"start", "die"}:
        return None
    code, at = attributes.get("exitCode", ""), item.get("timeNano")
    return EngineEvent(
        kind,
        service,
        attributes.get("com.docker.swarm.task.id", ""),
        attributes.get(LABEL_JOB, ""),
        actor.get("ID", ""),
        whole(code, 3) if kind == "die" and code.isdecimal() and len(code) <= 3 else None,
        datetime.fromtimestamp(at / 1e9, UTC).isoformat() if at else "",
    )
