"""The real engine. The ONLY module that imports docker; its errors become ours, temporary or permanent, here."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import docker
import docker.auth
import docker.errors
import pydantic
import requests
import urllib3
import urllib3.exceptions

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable, NotAManager
from jaas_submit.placement import Cluster
from jaas_worker.engine import ContainerTimes, EngineEvent, Frame, ResolvedImage, ServiceView, SwarmInfo, TaskView
from jaas_worker.engine_answers import (
    NodeItem,
    event_in,
    node_of,
    nodes_in,
    service_in,
    services_in,
    tasks_in,
    times_in,
)
from jaas_worker.engine_http import EngineAnswer, ask, demultiplex
from jaas_worker.memory import give_back

__all__ = ["Swarm", "require_manager"]

_NOBODY: Final = "node.id==none"
"""A constraint that no node meets: an update with it stops the running task and starts no other."""

_REFUSED_AS_500: Final = re.compile(r"network \S{1,255} not found|constraint expected one operator")
"""What Docker 20.10 answers with status 500 although the request itself is wrong."""


_LONG: Final = 2**20
"""Bytes of a list that is called long: a few hundred tasks."""

_NODES_AT_ONCE: Final = 25
"""Nodes whose tasks are asked for in one call: their ids have to fit into a URL."""


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    """Turn docker's and requests' errors into ours; ``what`` was being done."""
    try:
        yield
    except docker.errors.APIError as error:
        status = error.response.status_code if error.response is not None else 500
        raise _refusal(what, status, str(error.explanation or error).strip()) from error
    except EngineAnswer as error:
        raise _refusal(what, error.status, error.said) from error
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineUnavailable(f"{what}: the engine does not answer ({error})") from error
    except pydantic.ValidationError as error:  # its text would show what was answered
        problem = "its answer is not what Docker's API says"
        raise EngineUnavailable(f"{what}: {problem} ({error.error_count()} errors)") from None


def _refusal(what: str, status: int, said: str) -> EngineRefused | EngineUnavailable:
    if status == 404:
        return EngineNotFound(f"{what}: {said}")
    # 4xx: the engine understood and refuses. 503 is its answer on a node that is no manager, or has no leader.
    if (400 <= status < 500 and status not in {408, 429}) or _REFUSED_AS_500.search(said):
        return EngineRefused(f"{what}: {said}")
    return EngineUnavailable(f"{what}: {said}")


class Swarm:
    """A swarm manager behind its Docker API.

    Args:
        host: URL of the API, such as ``unix:///var/run/docker.sock`` or ``tcp://...``.
        timeout: seconds to wait for one answer.

    Threads may share it: each gets its own connection.
    """

    def __init__(self, host: str, timeout: float = 15.0) -> None:
        self.host = host
        self.timeout = timeout
        self._local = threading.local()

    def __repr__(self) -> str:
        return f"Swarm({self.host!r})"

    @property
    def _api(self) -> Any:  # the stubs leave most of APIClient's methods untyped
        client = getattr(self._local, "client", None)
        if client is None:
            with _mapped("asking the engine"):  # for its version
                client = docker.APIClient(base_url=self.host, version="auto", timeout=int(max(self.timeout, 1)))
            self._local.client = client
        return client

    def _ask(self, method: str, path: str, timeout: float = 0.0, **more: Any) -> urllib3.BaseHTTPResponse:
        """Send a request of which there are many; see ``engine_http.ask``."""
        api = self._api
        # docker-py's connections, without what it and `requests` do around them.
        if api.base_url.startswith("http+docker"):
            pool = api._custom_adapter.get_connection(api.base_url)
        else:
            prepared = requests.Request(method, api.base_url).prepare()
            pool = api.get_adapter(api.base_url).get_connection_with_tls_context(prepared, api.verify, cert=api.cert)
        return ask(pool, method, f"/v{api.api_version}/{path}", timeout or self.timeout, **more)

    def _tasks(self, **filters: list[str]) -> list[TaskView]:
        answer = self._ask("GET", "tasks", query={"filters": filters}).data
        tasks, size = tasks_in(answer), len(answer)
        del answer
        if size > _LONG:  # reading it took some megabytes, which are needed for a moment every few seconds
            give_back()
        return tasks

    def _nodes(self) -> list[NodeItem]:
        return nodes_in(self._ask("GET", "nodes").data)

    def info(self) -> SwarmInfo:
        with _mapped("asking the engine"):
            info = self._api.info()
            swarm = info.get("Swarm", {})
            return SwarmInfo(
                engine_version=info.get("ServerVersion", ""),
                api_version=self._api.api_version,
                node_id=swarm.get("NodeID", ""),
                node_name=info.get("Name", ""),
                state=swarm.get("LocalNodeState", "inactive"),
                manager=bool(swarm.get("ControlAvailable")),
                error=swarm.get("Error", ""),
            )

    def create(self, request: dict[str, Any], registry: str | None = None) -> ServiceView | None:
        name = str(request["Name"])
        with _mapped(f"creating service {name}"):
            headers = self._credentials(request["TaskTemplate"]["ContainerSpec"]["Image"], registry)
            try:
                answer = self._ask("POST", "services/create", body=request, headers=headers)
            except EngineAnswer as error:
                if error.status == 409:
                    return None
                raise
            return ServiceView(answer.json()["ID"], name, request["Labels"])

    def _credentials(self, image: str, registry: str | None) -> dict[str, str]:
        if registry is None:
            registry, _ = docker.auth.resolve_repository_name(image)
        header = docker.auth.get_config_header(self._api, registry)
        return {"X-Registry-Auth": header.decode("ascii")} if header else {}

    def find(self, name: str) -> ServiceView | None:
        try:
            with _mapped(f"looking for service {name}"):
                return service_in(self._ask("GET", f"services/{quote(name)}").data)
        except EngineNotFound:
            return None

    def resolve(self, image: str, registry: str | None = None) -> ResolvedImage | None:
        if "@" in image:
            return ResolvedImage(image)
        api = self._api
        try:
            with _mapped(f"asking the registry for {image}"):
                response = api.get(
                    f"{api.base_url}/v{api.api_version}/distribution/{quote(image, safe='/:')}/json",
                    headers=self._credentials(image, registry),
                    timeout=self.timeout,
                )
                _raise_for_status(response)
                digest = str(response.json()["Descriptor"]["digest"])
        except (EngineRefused, EngineUnavailable):
            return None  # no registry, no such image there, or no right to see it: the node will tell
        last = image.rsplit("/", 1)[-1]
        name = image.rsplit(":", 1)[0] if ":" in last else image
        try:
            with _mapped(f"inspecting image {image}"):
                known = api.inspect_image(image).get("RepoDigests") or []
        except (EngineRefused, EngineUnavailable):
            known = None
        stale = known is not None and not any(text.endswith(f"@{digest}") for text in known)
        note = f"this engine's own image {image} is not the registry's; {digest} is used" if stale else ""
        return ResolvedImage(f"{name}@{digest}", note)

    def services(self, label: str, prefix: str = "") -> list[ServiceView]:
        with _mapped("listing services"):
            return services_in(self._ask("GET", "services", query={"filters": _filters(label, prefix)}).data)

    def ended_tasks(self, label: str) -> list[TaskView]:
        with _mapped("listing ended tasks"):
            return self._tasks(**{"label": [label], "desired-state": ["shutdown"]})

    def all_tasks(self, label: str) -> list[TaskView]:
        with _mapped("listing tasks"):
            return self._tasks(label=[label])

    def tasks_of(self, *service_ids: str) -> list[TaskView]:
        try:
            with _mapped("listing services' tasks"):
                return self._tasks(service=list(service_ids))
        except EngineNotFound:  # one of them is gone, and the others' tasks are not told
            if len(service_ids) == 1:
                return []
            return [task for service_id in service_ids for task in self.tasks_of(service_id)]

    def stop(self, service_id: str) -> bool:
        # Removing the service would take logs and exit code along; scaling to 0 would remove the task. An update that
        # no node can meet makes the swarm stop the running task in its normal way (stop signal, grace, kill) and keep
        # what is left of it.
        for _ in range(5):
            try:
                with _mapped("stopping a service"):
                    found = self._api.inspect_service(service_id)
                    spec = found["Spec"]
                    template = spec["TaskTemplate"]
                    template["Placement"] = {"Constraints": [_NOBODY]}
                    self._api.update_service(
                        found["ID"],
                        found["Version"]["Index"],
                        task_template=template,
                        name=spec["Name"],
                        labels=spec["Labels"],
                        mode=spec["Mode"],
                        endpoint_spec=spec.get("EndpointSpec"),
                    )
            except EngineNotFound:
                return False
            except (EngineRefused, EngineUnavailable) as error:
                if "out of sequence" not in str(error):  # somebody else updated it in between: read it again
                    raise
            else:
                return True
        raise EngineUnavailable("stopping a service: others keep updating it")

    def remove(self, service_id: str) -> bool:
        try:
            with _mapped("removing a service"):
                self._ask("DELETE", f"services/{service_id}")
        except EngineNotFound:
            return False
        return True

    def create_config(self, name: str, labels: dict[str, str], data: bytes) -> str:
        try:
            with _mapped(f"creating config {name}"):
                return str(self._api.create_config(name, data, labels)["ID"])
        except EngineRefused:
            # It exists (whoever made it), or it is refused for good.
            with _mapped(f"looking for config {name}"):
                for item in self._api.configs(filters={"name": [name]}):
                    if item["Spec"]["Name"] == name:
                        return str(item["ID"])
            raise

    def configs(self, label: str, prefix: str = "") -> dict[str, dict[str, str]]:
        with _mapped("listing configs"):
            found = self._api.configs(filters=_filters(label, prefix))
            return {item["Spec"]["Name"]: item["Spec"].get("Labels") or {} for item in found}

    def remove_config(self, name: str) -> bool:
        try:
            with _mapped(f"removing config {name}"):
                self._api.remove_config(name)
        except EngineNotFound:
            return False
        return True

    def secret_ids(self, names: list[str]) -> dict[str, str]:
        with _mapped("listing secrets"):
            found = self._api.secrets(filters={"name": names})
            # The filter matches prefixes; only whole names count.
            return {item["Spec"]["Name"]: item["ID"] for item in found if item["Spec"]["Name"] in names}

    def node_names(self) -> dict[str, str]:
        with _mapped("listing nodes"):
            return {node["ID"]: node["Description"].get("Hostname", "") for node in self._nodes()}

    def cluster(self) -> Cluster:
        with _mapped("listing nodes"):
            nodes = self._nodes()
            cpus: dict[str, float] = defaultdict(float)
            memory: dict[str, int] = defaultdict(int)
            # By nodes: so the tasks that no node has (there may be ten thousand that wait) are not in the answers.
            for first in range(0, len(nodes), _NODES_AT_ONCE):
                some = [node["ID"] for node in nodes[first : first + _NODES_AT_ONCE]]
                for task in self._api.tasks(filters={"desired-state": ["running"], "node": some}):
                    reserved = task.get("Spec", {}).get("Resources", {}).get("Reservations") or {}
                    cpus[task["NodeID"]] += reserved.get("NanoCPUs", 0) / 1e9
                    memory[task["NodeID"]] += reserved.get("MemoryBytes", 0)
            free = tuple(node_of(node, cpus[node["ID"]], memory[node["ID"]]) for node in nodes)
            return Cluster(at=datetime.now(UTC), nodes=free)

    def down_nodes(self) -> set[str]:
        with _mapped("listing nodes"):
            return {node["ID"] for node in self._nodes() if node["Status"]["State"] in {"down", "unknown"}}

    def node_back_at(self, node_id: str) -> str:
        try:
            with _mapped("inspecting a node"):
                return str(self._api.inspect_node(node_id)["UpdatedAt"])
        except EngineNotFound:
            return ""

    def container_times(self, container_id: str) -> ContainerTimes | None:
        try:
            with _mapped("inspecting a container"):
                return times_in(self._ask("GET", f"containers/{container_id}/json").data)
        except EngineNotFound:
            return None

    def logs(self, service_id: str, container_id: str | None, timeout: float) -> Iterator[Frame]:
        deadline = time.monotonic() + timeout
        service = f"services/{service_id}"
        with _mapped("reading logs"):
            # The engine that ran the container has the output at hand; the swarm-wide call needs the node's help.
            try:
                response = self._open_logs(f"containers/{container_id}" if container_id else service, deadline)
            except EngineAnswer as error:
                if error.status != 404 or not container_id:
                    raise
                response = self._open_logs(service, deadline)
            try:
                yield from demultiplex(response, deadline)
            finally:
                response.close()

    def _open_logs(self, what: str, deadline: float) -> urllib3.BaseHTTPResponse:
        query = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": "0"}
        return self._ask("GET", f"{what}/logs", max(deadline - time.monotonic(), 0.1), query=query, stream=True)

    def events(self) -> Iterator[EngineEvent]:
        with _mapped("following events"):
            # An own connection without a read time-out: a quiet swarm has no events for hours.
            api = docker.APIClient(base_url=self.host, version="auto", timeout=int(max(self.timeout, 1)))
            try:
                filters = {"type": ["container", "service"], "event": ["start", "die", "remove"]}
                for item in api.events(decode=True, filters=filters):
                    if event := event_in(item):
                        yield event
            finally:
                api.close()
        raise EngineUnavailable("following events: the engine closed the stream")


def _raise_for_status(response: requests.Response) -> None:
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        raise docker.errors.create_api_error_from_http_exception(error) from error


def _filters(label: str, prefix: str) -> dict[str, list[str]]:
    """Return the filters of a list. Source: moby, daemon/cluster: ``name`` matches names that begin so."""
    return {"label": [label], "name": [prefix]} if prefix else {"label": [label]}


def require_manager(info: SwarmInfo, host: str) -> None:
    """Check that jobs can be created on this engine.

    Args:
        info: what the engine says.
        host: where it was asked, for the text.

    Raises:
        NotAManager: it is not in a swarm, or is no manager; the text says what to do.
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
