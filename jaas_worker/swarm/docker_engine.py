"""The real engine: requests to a swarm manager's Docker API."""

from __future__ import annotations

import base64
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import quote

import urllib3
import urllib3.exceptions

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable, NotAManager, TemporaryError
from jaas_submit.model.cluster import Cluster, Node
from jaas_submit.model.logs import STREAMS, Stream
from jaas_submit.policy.facts import NetworkFacts, Reference
from jaas_worker.swarm.engine import (
    ContainerTimes,
    EngineEvent,
    Frame,
    NodeChange,
    ResolvedImage,
    ServiceView,
    SwarmInfo,
    TaskView,
)
from jaas_worker.swarm.http import EngineAnswer, EngineHTTP, demultiplex, mapped
from jaas_worker.swarm.responses import (
    NodeItem,
    distribution_in,
    event_in,
    generic_in,
    network_in,
    node_of,
    nodes_in,
    service_in,
    services_in,
    tasks_in,
    times_in,
)

__all__ = ["Swarm", "require_manager"]

_NO_NODE: Final = "node.id==none"
"""A constraint that no node meets: an update with it stops the running task and starts no other."""

_NODES_PER_CALL: Final = 25
"""Number of nodes in one request for tasks: their ids have to fit into a URL."""


class Swarm:
    """A swarm manager behind its Docker API.

    Args:
        host: URL of the API, such as ``unix:///var/run/docker.sock`` or ``tcp://...``.
        timeout: seconds to wait for one answer.
        silence: seconds without an event after which the engine is asked for them anew.

    Threads may share it: each gets its own connection.
    """

    def __init__(self, host: str, timeout: float = 15.0, silence: float = 60.0) -> None:
        self.host = host
        self.timeout = timeout
        self._silence = silence
        self._http = EngineHTTP(host, timeout)

    def __repr__(self) -> str:
        return f"Swarm({self.host!r})"

    def _get(self, path: str, **query: Any) -> bytes:
        return self._http.ask("GET", path, query=query).data

    def _get_json(self, path: str, **query: Any) -> Any:
        return self._http.ask("GET", path, query=query).json()

    def _tasks(self, **filters: list[str]) -> list[TaskView]:
        return tasks_in(self._get("tasks", filters=filters))

    def _nodes(self) -> list[NodeItem]:
        return nodes_in(self._get("nodes"))

    def info(self) -> SwarmInfo:
        with mapped("asking the engine"):
            info = self._get_json("info")
            swarm = info.get("Swarm", {})
            return SwarmInfo(
                engine_version=info.get("ServerVersion", ""),
                api_version=self._http.version,
                node_id=swarm.get("NodeID", ""),
                node_name=info.get("Name", ""),
                state=swarm.get("LocalNodeState", "inactive"),
                manager=bool(swarm.get("ControlAvailable")),
                error=swarm.get("Error", ""),
                log_driver=info.get("LoggingDriver", ""),
            )

    def create(self, request: dict[str, Any], registry: str | None = None) -> ServiceView | None:
        name = str(request["Name"])
        with mapped(f"creating service {name}"):
            headers = self._http.credentials(request["TaskTemplate"]["ContainerSpec"]["Image"], registry)
            try:
                answer = self._http.ask("POST", "services/create", body=request, headers=headers)
            except EngineAnswer as error:
                if error.status == 409:
                    return None
                if error.config_gone:  # somebody has removed it a moment ago; it is made again, or looked for
                    raise TemporaryError(f"creating service {name}: {error.said}") from error
                raise
            return ServiceView(answer.json()["ID"], name, request["Labels"])

    def find(self, name: str) -> ServiceView | None:
        try:
            with mapped(f"looking for service {name}"):
                return service_in(self._get(f"services/{quote(name)}"))
        except EngineNotFound:
            return None

    def resolve(self, image: str, registry: str | None = None) -> ResolvedImage:
        in_path = quote(image, safe="/:@")
        with mapped(f"finding credentials for {image}"):
            headers = self._http.credentials(image, registry)
        try:
            with mapped(f"asking the registry for {image}"):
                answer = self._http.ask("GET", f"distribution/{in_path}/json", headers=headers)
                digest, platforms = distribution_in(answer.data)
        except (EngineRefused, EngineUnavailable) as error:
            # No registry, no such image there, or no right to see it: a node may have the image all the same.
            return ResolvedImage(image if "@" in image else "", problem=str(error))
        if "@" in image:
            return ResolvedImage(image, platforms=platforms)
        last = image.rsplit("/", 1)[-1]
        name = image.rsplit(":", 1)[0] if ":" in last else image
        try:
            with mapped(f"inspecting image {image}"):
                known = self._get_json(f"images/{in_path}/json").get("RepoDigests") or []
        except (EngineRefused, EngineUnavailable):
            known = None
        stale = known is not None and not any(text.endswith(f"@{digest}") for text in known)
        note = f"this engine's own image {image} is not the registry's; {digest} is used" if stale else ""
        return ResolvedImage(f"{name}@{digest}", note, platforms)

    def services(self, label: str, prefix: str = "") -> list[ServiceView]:
        with mapped("listing services"):
            return services_in(self._get("services", filters=_filters(label, prefix)))

    def ended_tasks(self, label: str) -> list[TaskView]:
        with mapped("listing ended tasks"):
            return self._tasks(**{"label": [label], "desired-state": ["shutdown"]})

    def all_tasks(self, label: str) -> list[TaskView]:
        with mapped("listing tasks"):
            return self._tasks(label=[label])

    def tasks_of(self, *service_ids: str) -> list[TaskView]:
        try:
            with mapped("listing services' tasks"):
                return self._tasks(service=list(service_ids))
        except EngineNotFound:  # one of them is gone, so the answer has no tasks of the others
            if len(service_ids) == 1:
                return []
            return [task for service_id in service_ids for task in self.tasks_of(service_id)]

    def stop(self, service_id: str) -> bool:
        # Removing the service would take logs and exit code along; scaling to 0 would remove the task. An update with a
        # constraint that no node meets makes the swarm stop the running task in its normal way (stop signal, grace,
        # kill) and keep its output and exit code.
        for _ in range(5):
            try:
                with mapped("stopping a service"):
                    found = self._get_json(f"services/{service_id}")
                    spec = found["Spec"]
                    spec["TaskTemplate"]["Placement"] = {"Constraints": [_NO_NODE]}
                    version = {"version": str(found["Version"]["Index"])}
                    self._http.ask("POST", f"services/{service_id}/update", query=version, body=spec)
            except EngineNotFound:
                return False
            except (EngineRefused, EngineUnavailable) as error:
                if "out of sequence" not in str(error):  # another update came in between: read it again
                    raise
            else:
                return True
        raise EngineUnavailable("stopping a service: it is updated by others again and again")

    def remove(self, service_id: str) -> bool:
        try:
            with mapped("removing a service"):
                self._http.ask("DELETE", f"services/{service_id}")
        except EngineNotFound:
            return False
        return True

    def create_config(self, name: str, labels: dict[str, str], data: bytes) -> str:
        try:
            with mapped(f"creating config {name}"):
                body = {"Name": name, "Labels": labels, "Data": base64.b64encode(data).decode("ascii")}
                return str(self._http.ask("POST", "configs/create", body=body).json()["ID"])
        except EngineRefused:
            # It exists, or it is refused for good.
            found = self._config(name)
            if found is None:
                raise
            if not _has(found[1], labels):
                raise EngineRefused(
                    f"a config named {name} exists, but its labels are not those of this job; remove it, then submit "
                    "the job again"
                ) from None
            return found[0]

    def _config(self, name: str) -> tuple[str, dict[str, str]] | None:
        """Return id and labels of the config of this name; the filter matches all names that begin so."""
        with mapped(f"looking for config {name}"):
            for item in self._get_json("configs", filters={"name": [name]}) or ():
                if item["Spec"]["Name"] == name:
                    return str(item["ID"]), item["Spec"].get("Labels") or {}
        return None

    def configs(self, label: str, prefix: str = "", most_bytes: int = 0) -> dict[str, dict[str, str]]:
        with mapped("listing configs"):
            found = self._http.read("configs", {"filters": _filters(label, prefix)}, most_bytes)
            return {item["Spec"]["Name"]: item["Spec"].get("Labels") or {} for item in found or ()}

    def remove_config(self, name: str, labels: Mapping[str, str]) -> bool:
        found = self._config(name)
        if found is None or not _has(found[1], labels):
            return False
        try:
            # By its id: by then the name may be another one's.
            with mapped(f"removing config {name}"):
                self._http.ask("DELETE", f"configs/{found[0]}")
        except EngineNotFound:
            return False
        return True

    def secret_ids(self, names: list[str]) -> dict[str, str]:
        return self._ids("secrets", names)

    def config_ids(self, names: list[str]) -> dict[str, str]:
        return self._ids("configs", names)

    def _ids(self, kind: Literal["secrets", "configs"], names: list[str]) -> dict[str, str]:
        with mapped(f"listing {kind}"):
            found = self._get_json(kind, filters={"name": names}) or ()
            # The filter matches prefixes; only whole names count.
            return {item["Spec"]["Name"]: item["ID"] for item in found if item["Spec"]["Name"] in names}

    def references(self, kind: Literal["secrets", "configs"], ids: list[str]) -> dict[str, Reference]:
        with mapped(f"listing {kind}"):
            found = self._get_json(kind, filters={"id": ids}) or ()
            # The filter matches prefixes; only whole ids count.
            known = {item["ID"]: item["Spec"] for item in found if item["ID"] in ids}
            return {one: Reference(spec["Name"], spec.get("Labels") or {}) for one, spec in known.items()}

    def network(self, name: str) -> NetworkFacts | None:
        try:
            with mapped(f"inspecting network {name}"):
                return network_in(self._get(f"networks/{quote(name, safe='')}"))
        except EngineNotFound:
            return None

    def request_of(self, service: str) -> dict[str, Any] | None:
        try:
            with mapped("inspecting a service"):
                spec: dict[str, Any] = self._get_json(f"services/{service}")["Spec"]
                return spec
        except EngineNotFound:
            return None

    def node_facts(self) -> tuple[Node, ...]:
        with mapped("listing nodes"):
            return tuple(node_of(node, 0, 0) for node in self._nodes())

    def node_names(self) -> dict[str, str]:
        with mapped("listing nodes"):
            return {node["ID"]: node["Description"].get("Hostname", "") for node in self._nodes()}

    def cluster(self) -> Cluster:
        with mapped("listing nodes"):
            nodes = self._nodes()
            cpus: dict[str, float] = defaultdict(float)
            memory: dict[str, int] = defaultdict(int)
            generic: dict[str, Counter[str]] = defaultdict(Counter)
            # By nodes, so that the answers do not contain tasks without a node, of which there may be ten thousand.
            for first in range(0, len(nodes), _NODES_PER_CALL):
                some = [node["ID"] for node in nodes[first : first + _NODES_PER_CALL]]
                for task in self._get_json("tasks", filters={"desired-state": ["running"], "node": some}) or ():
                    reserved = task.get("Spec", {}).get("Resources", {}).get("Reservations") or {}
                    cpus[task["NodeID"]] += reserved.get("NanoCPUs", 0) / 1e9
                    memory[task["NodeID"]] += reserved.get("MemoryBytes", 0)
                    generic[task["NodeID"]] += generic_in(reserved.get("GenericResources"))
            ids = [node["ID"] for node in nodes]
            free = tuple(
                node_of(node, cpus[id_], memory[id_], generic[id_]) for node, id_ in zip(nodes, ids, strict=True)
            )
            return Cluster(at=datetime.now(UTC), nodes=free)

    def down_nodes(self) -> set[str]:
        with mapped("listing nodes"):
            return {node["ID"] for node in self._nodes() if node["Status"]["State"] in {"down", "unknown"}}

    def node_change(self, node_id: str) -> NodeChange:
        try:
            with mapped("inspecting a node"):
                node = self._get_json(f"nodes/{node_id}")
                return NodeChange(str(node["UpdatedAt"]), node["Spec"].get("Availability") == "drain")
        except EngineNotFound:
            return NodeChange()

    def container_times(self, container_id: str) -> ContainerTimes | None:
        try:
            with mapped("inspecting a container"):
                return times_in(self._get(f"containers/{container_id}/json"))
        except EngineNotFound:
            return None

    def logs(
        self, service_id: str, container_id: str | None, timeout: float, tail: int = 0, only: Stream | None = None
    ) -> Iterator[Frame]:
        deadline = time.monotonic() + timeout
        service = f"services/{service_id}"
        with mapped("reading logs"):
            # The engine that ran the container has the output; the swarm-wide request has to ask the node.
            try:
                response = self._open_logs(
                    f"containers/{container_id}" if container_id else service, deadline, tail, only
                )
            except EngineAnswer as error:
                if error.status != 404 or not container_id:
                    raise
                response = self._open_logs(service, deadline, tail, only)
            try:
                yield from demultiplex(response, deadline)
            finally:
                response.close()

    def _open_logs(self, what: str, deadline: float, tail: int, only: Stream | None) -> urllib3.BaseHTTPResponse:
        query = {"timestamps": "1", "follow": "0", "tail": str(tail) if tail else "all"}
        query.update({stream: "1" for stream in STREAMS if only in {None, stream}})
        patience = max(deadline - time.monotonic(), 0.1)
        return self._http.ask("GET", f"{what}/logs", timeout=patience, query=query, stream=True)

    def events(self) -> Iterator[EngineEvent]:
        with mapped("following events"):
            filters = {"type": ["container", "service"], "event": ["start", "die", "remove"]}
            silent = True
            while silent:  # a new connection shows whether the engine is still there
                silent = False
                try:
                    for item in self._http.follow("events", {"filters": filters}, self._silence):
                        if event := event_in(item):
                            yield event
                except urllib3.exceptions.ReadTimeoutError:
                    silent = True
        raise EngineUnavailable("following events: the engine closed the stream")


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def _filters(label: str, prefix: str) -> dict[str, list[str]]:
    """Return the filters of a list. Source: moby, daemon/cluster: ``name`` matches names that begin so."""
    return {"label": [label], "name": [prefix]} if prefix else {"label": [label]}


def require_manager(info: SwarmInfo, host: str) -> None:
    """Check that jobs can be created on this engine.

    Args:
        info: the engine's answer.
        host: its address, for the text.

    Raises:
        NotAManager: it is not in a swarm, or not a manager; the text says what to do.
    """
    if info.state != "active":
        more = f" ({info.error})" if info.error else ""
        raise NotAManager(
            f"the engine at {host} is not in a swarm: it is {info.state}{more}; run `docker swarm init` there, "
            "or point DOCKER_HOST at a swarm manager"
        )
    if not info.manager:
        raise NotAManager(
            f"the engine at {host} ({info.node_name}) is a swarm worker, not a manager; run jaas workers on manager "
            "nodes only (constraint node.role==manager), or `docker node promote` it"
        )
