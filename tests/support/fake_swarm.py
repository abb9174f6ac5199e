"""An engine in memory that the test drives; tests/contract/test_engine.py holds it to what a real one does.

    engine = FakeSwarm()
    create_or_adopt(engine, spec, "j1", 1, {})    # runs until the test ends it
    engine.exit("j1", 4, stdout=b"hello\n")

A container runs at once, unless ``auto_start=False`` (then ``start(job)`` does it). What it does is looked up in
tests/support/programs.py by its command; one that is not there runs until ``exit``, ``stop`` or ``remove``.
Where a method takes a job, its id, its service's name or its service's id will do.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from jaas_submit.errors import AnswerTooLong, EngineNotFound, EngineRefused, EngineUnavailable
from jaas_submit.model.cluster import Cluster
from jaas_submit.model.cluster import Node as NodeFacts
from jaas_submit.model.fields import Constraint
from jaas_submit.model.logs import Stream
from jaas_submit.model.wire_names import LABEL_JOB
from jaas_submit.policy.facts import NetworkFacts, Reference
from jaas_worker.swarm.engine import (
    ENDED_STATES,
    ContainerTimes,
    EngineEvent,
    Frame,
    NodeChange,
    ResolvedImage,
    ServiceView,
    SwarmInfo,
    TaskView,
)
from tests.support.programs import NO_SUCH_IMAGE, NO_SUCH_PROGRAM, PROGRAMS, Program

__all__ = ["FakeSwarm", "Gate", "Node"]

_DRIVEN = Program("", exit_code=None, on_term=143)
_NEVER = "0001-01-01T00:00:00Z"
_LOG_DRIVERS = ("json-file", "local", "syslog")


@dataclass
class Node:
    """A node of the swarm; only the first one's containers are on the engine that answers."""

    id: str
    name: str
    cpus: float = 8
    up: bool = True
    back_at: str = "2026-11-23T00:00:00Z"
    attributes: dict[str, str] = field(default_factory=dict)

    def meets(self, constraint: str) -> bool:
        """Return whether a container with this constraint may run here."""
        wanted = Constraint.parse(constraint)
        mine = {"node.id": self.id, "node.hostname": self.name, "node.role": "manager", **self.attributes}
        return (mine.get(wanted.key.lower(), "").lower() == wanted.value.lower()) == wanted.equal


@dataclass
class _Container:
    id: str
    program: Program
    started_at: str = _NEVER
    finished_at: str = _NEVER
    oom_killed: bool = False
    exit_code: int | None = None
    frames: list[Frame] = field(default_factory=list)


@dataclass
class _Task:
    id: str
    service_id: str
    created_at: str
    timestamp: str
    desired: str = "running"
    state: str = "new"
    node: Node | None = None
    message: str = "pending task scheduling"
    error: str = ""
    container: _Container | None = None
    exit_code: int | None = None

    @property
    def runs_or_ran(self) -> bool:
        """Whether the swarm hands its output out (moby/swarmkit, manager/logbroker/subscription.go, match)."""
        return self.state == "running" or self.state in ENDED_STATES

    def view(self) -> TaskView:
        return TaskView(
            id=self.id,
            service_id=self.service_id,
            created_at=self.created_at,
            desired=self.desired,
            state=self.state,
            node_id=self.node.id if self.node else "",
            message=self.message,
            error=self.error,
            timestamp=self.timestamp,
            container_id=self.container.id if self.container else None,
            exit_code=self.exit_code,
        )


@dataclass
class _Service:
    id: str
    request: dict[str, Any]
    created_at: str
    tasks: list[_Task] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.request["Name"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.request["Labels"])

    def view(self) -> ServiceView:
        env = self.request["TaskTemplate"]["ContainerSpec"]["Env"]
        return ServiceView(self.id, self.name, self.labels, self.created_at, tuple(env))


@dataclass
class _Fault:
    error: Exception
    after: bool
    times: int


def _has_label(labels: dict[str, str], label: str) -> bool:
    key, equals, value = label.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _forms(labels: dict[str, str]) -> Iterator[str]:
    """Yield what a filter may say to find these labels: ``key`` and ``key=value`` of each."""
    for key, value in labels.items():
        yield key
        yield f"{key}={value}"


class Gate:
    """Holds calls of one method until ``open``; ``reached`` is set when one has arrived."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        """Let the calls go on."""
        self._open.set()

    def pass_through(self) -> None:
        """Called by the engine; a test that forgets to open fails within 30 seconds."""
        self.reached.set()
        assert self._open.wait(30), "nobody opened the gate"


class FakeSwarm:
    """An ``Engine`` in memory.

    Args:
        nodes: names of the nodes.
        auto_start: False leaves each container ``preparing`` until ``start``.
        manager: False makes it a swarm worker.
    """

    def __init__(self, nodes: tuple[str, ...] = ("node1",), *, auto_start: bool = True, manager: bool = True) -> None:
        self.nodes = {name: Node(f"id-of-{name}", name) for name in nodes}
        self.auto_start = auto_start
        self.manager = manager
        self.api_version = "1.41"
        self.engine_version = ""
        """Of each node; empty where the swarm does not tell."""
        self.slow_stop = False
        """True: a container that is asked to stop goes on until ``exit``."""
        self.away = False
        """True: no call is answered, and event streams break."""
        self.api_versions = ("1.12", "1.41")
        """The oldest and the newest version of the API that is spoken over HTTP."""
        self.networks = {"demo"}
        self.config_files: dict[str, tuple[str, dict[str, str], bytes]] = {}
        self.images: dict[str, ResolvedImage] = {}
        """What registries tell."""
        self.secrets: dict[str, str] = {}
        self.labels_of: dict[str, dict[str, str]] = {}
        """Of secrets and networks, by name."""
        self.missing_images = {NO_SUCH_IMAGE}
        self.calls: Counter[str] = Counter()
        """How often each method was called."""
        self.requests: list[dict[str, Any]] = []
        """Bodies of the requests that created a service."""
        self.keep_history = True
        """False: neither the bodies nor the starts are kept, where there are very many."""
        self.starts: list[str] = []
        """Names of the services whose container was started, in order: two of one name are a duplicate start."""
        self._lock = threading.RLock()
        self._services: dict[str, _Service] = {}
        # Indexes, so that a hundred thousand services cost no more to look one up than ten do.
        self._by_name: dict[str, _Service] = {}
        self._reserving: dict[str, _Service] = {}  # a hundred thousand others need not be looked at for the nodes
        self._by_label: defaultdict[str, dict[str, _Service]] = defaultdict(dict)
        self._ending: dict[str, _Service] = {}
        self._containers: dict[str, _Task] = {}
        self._numbers = itertools.count(1)
        self._last_time = datetime.fromtimestamp(0, UTC)
        self._faults: dict[str, list[_Fault]] = {}
        self._gates: dict[str, Gate] = {}
        self.listeners: list[queue.SimpleQueue[EngineEvent | None]] = []

    def __repr__(self) -> str:
        return f"FakeSwarm({len(self._services)} services)"

    # -- the test's side: faults ------------------------------------------------------------------------------------

    def fail(self, method: str, *, times: int = 1, lost_reply: bool = False, error: Exception | None = None) -> None:
        """Let the next calls of a method fail.

        Args:
            method: such as ``create``.
            times: how many calls.
            lost_reply: the request is carried out, and then the caller gets the error.
            error: what is raised; EngineUnavailable by default.
        """
        fault = _Fault(error or EngineUnavailable(f"{method}: the engine does not answer (test)"), lost_reply, times)
        self._faults.setdefault(method, []).append(fault)

    def hold(self, method: str) -> Gate:
        """Hold the calls of a method until the gate that is returned is opened."""
        self._gates[method] = Gate()
        return self._gates[method]

    def break_events(self) -> None:
        """Break all event streams."""
        for listener in self.listeners:
            listener.put(None)

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        """What each method of the engine's API goes through."""
        if gate := self._gates.get(method):
            gate.pass_through()
        with self._lock:
            self.calls[method] += 1
            if self.away:
                raise EngineUnavailable(f"{method}: the engine does not answer (test: away)")
            faults = self._faults.get(method, [])
            fault = faults[0] if faults else None
            if fault:
                fault.times -= 1
                if not fault.times:
                    faults.pop(0)
                if not fault.after:
                    raise fault.error
            yield
            if fault:
                raise fault.error

    # -- the test's side: what happens in the swarm -----------------------------------------------------------------

    def job(self, job: str) -> TaskView:
        """Return the first task of a job's newest service."""
        with self._lock:
            service = self._of(job)
            return service.tasks[0].view()

    def running(self) -> list[str]:
        """Return the names of the services whose container runs now."""
        with self._lock:
            return [s.name for s in self._services.values() if s.tasks[0].state == "running"]

    def start(self, job: str) -> None:
        """Start the container of a job that is ``preparing`` or ``pending``."""
        with self._lock:
            service = self._of(job)
            task = service.tasks[0]
            task.node = task.node or next(iter(self.nodes.values()))
            self._start(service, task)

    def exit(self, job: str, code: int = 0, stdout: bytes = b"", stderr: bytes = b"", *, oom: bool = False) -> None:
        """End the process of a job's running container."""
        with self._lock:
            service = self._of(job)
            task = service.tasks[0]
            assert task.state == "running", f"{job} is {task.state}"
            assert task.container is not None
            task.container.oom_killed = oom
            for stream, data in (("stdout", stdout), ("stderr", stderr)):
                self._print(task.container, stream, data)
            self._exited(service, task, code)

    def die(self, job: str) -> None:
        """Let the engine tell that a job's container is dead, of which the swarm has not heard yet."""
        with self._lock:
            service = self._of(job)
            self._tell("die", service, service.tasks[0])

    def tell(self, event: EngineEvent) -> None:
        """Let the event streams say something, whatever is the case here."""
        for listener in self.listeners:
            listener.put(event)

    def set_task(self, job: str, state: str, *, error: str = "", exit_code: int | None = None) -> None:
        """Put a job's task into any state, as the swarm does for reasons of its own, such as ``rejected``."""
        with self._lock:
            task = self._of(job).tasks[0]
            task.error = error
            if exit_code is not None:
                task.exit_code = exit_code
            self._state(task, state)
            if task.container and state in ENDED_STATES:
                task.container.finished_at = self._time()

    def set_pending(self, job: str, error: str = "no suitable node (insufficient resources on 1 node)") -> None:
        """Let a job's task wait for a node."""
        self.set_task(job, "pending", error=error)

    def lose_node(self, name: str) -> None:
        """Cut a node off: its tasks are to shut down, and stay in the state that was seen last."""
        with self._lock:
            node = self.nodes[name]
            node.up = False
            for service in self._services.values():
                for task in service.tasks:
                    if task.node is node:
                        self._want_end(task)

    def node_returns(self, name: str) -> None:
        """Let a lost node come back; the test then says with ``exit`` how its containers have ended."""
        with self._lock:
            self.nodes[name].up = True

    def relabel(self, job: str, name: str, value: str) -> None:
        """Change a label of a job's service as somebody else does."""
        with self._lock:
            self._of(job).request["Labels"][name] = value

    def remove_outside(self, job: str) -> None:
        """Remove a job's service as somebody else does."""
        with self._lock:
            self._remove(self._of(job))

    def close(self) -> None:
        """End all event streams, so that the threads that read them end too."""
        self.away = True
        self.break_events()

    # -- the engine's API -------------------------------------------------------------------------------------------

    def info(self) -> SwarmInfo:
        with self._call("info"):
            node = next(iter(self.nodes.values()))
            return SwarmInfo("fake", self.api_version, node.id, node.name, "active", self.manager)

    def create(self, request: dict[str, Any], registry: str | None = None) -> ServiceView | None:
        with self._call("create"):
            name = str(request["Name"])
            if self._named(name):
                return None
            self._check(request)
            service = _Service(self._id("service"), request, self._time())
            self._add(service)
            if self.keep_history:
                self.requests.append(request)
            service.tasks.append(task := self._new_task(service))
            self._schedule(service, task)
            return service.view()

    def find(self, name: str) -> ServiceView | None:
        with self._call("find"):
            service = self._named(name)
            return service.view() if service else None

    def services(self, label: str, prefix: str = "") -> list[ServiceView]:
        with self._call("services"):
            return [service.view() for service in self._labelled(label) if service.name.startswith(prefix)]

    def ended_tasks(self, label: str) -> list[TaskView]:
        with self._call("ended_tasks"):
            mine = self._by_label.get(label, {})
            ending = [service for id_, service in self._ending.items() if id_ in mine]
            return [task.view() for s in ending for task in s.tasks if task.desired == "shutdown"]

    def all_tasks(self, label: str) -> list[TaskView]:
        with self._call("all_tasks"):
            return [task.view() for s in self._labelled(label) for task in s.tasks]

    def tasks_of(self, *service_ids: str) -> list[TaskView]:
        with self._call("tasks_of"):
            found = [self._services[service_id] for service_id in service_ids if service_id in self._services]
            return [task.view() for service in found for task in service.tasks]

    def stop(self, service_id: str) -> bool:
        with self._call("stop"):
            service = self._services.get(service_id)
            if service is None:
                return False
            task = service.tasks[0]
            if task.desired == "shutdown":  # it has ended, or was asked before
                return True
            self._want_end(task)
            service.tasks.append(waiting := self._new_task(service))
            self._wait_for_node(waiting, "scheduling constraints not satisfied")
            if task.state != "running":
                task.error = ""
                self._state(task, "shutdown")
            elif not self.slow_stop:
                self._terminate(service, task)
            return True

    def remove(self, service_id: str) -> bool:
        with self._call("remove"):
            service = self._services.get(service_id)
            if service is None:
                return False
            self._remove(service)
            return True

    def create_config(self, name: str, labels: dict[str, str], data: bytes) -> str:
        with self._call("create_config"):
            made = self.config_files.setdefault(name, (self._id("config"), labels, data))
            if any(made[1].get(key) != value for key, value in labels.items()):
                raise EngineRefused(f"a config named {name} exists, but its labels are not those of this job")
            return made[0]

    def configs(self, label: str, prefix: str = "", most_bytes: int = 0) -> dict[str, dict[str, str]]:
        with self._call("configs"):
            found = {
                name: made
                for name, made in self.config_files.items()
                if _has_label(made[1], label) and name.startswith(prefix)
            }
            if most_bytes and sum(len(made[2]) for made in found.values()) > most_bytes:
                raise AnswerTooLong("listing configs")
            return {name: made[1] for name, made in found.items()}

    def remove_config(self, name: str, labels: Mapping[str, str]) -> bool:
        with self._call("remove_config"):
            made = self.config_files.get(name)
            if made is None or any(made[1].get(key) != value for key, value in labels.items()):
                return False
            del self.config_files[name]
            return True

    def secret_ids(self, names: list[str]) -> dict[str, str]:
        with self._call("secret_ids"):
            return {name: self.secrets[name] for name in names if name in self.secrets}

    def config_ids(self, names: list[str]) -> dict[str, str]:
        with self._call("config_ids"):
            return {name: self.config_files[name][0] for name in names if name in self.config_files}

    def references(self, kind: Literal["secrets", "configs"], ids: list[str]) -> dict[str, Reference]:
        with self._call("references"):
            if kind == "configs":
                made = self.config_files.items()
                return {id_: Reference(name, labels) for name, (id_, labels, _) in made if id_ in ids}
            found = {id_: name for name, id_ in self.secrets.items() if id_ in ids}
            return {id_: Reference(name, self.labels_of.get(name, {})) for id_, name in found.items()}

    def network(self, name: str) -> NetworkFacts | None:
        with self._call("network"):
            labels = self.labels_of.get(name, {})
            return NetworkFacts(name, name, "overlay", "swarm", True, labels) if name in self.networks else None

    def request_of(self, service: str) -> dict[str, Any] | None:
        with self._call("request_of"):
            found = self._services.get(service) or self._named(service)
            return found.request if found else None

    def node_facts(self) -> tuple[NodeFacts, ...]:
        return self.cluster().nodes

    def node_names(self) -> dict[str, str]:
        with self._call("node_names"):
            return {node.id: node.name for node in self.nodes.values()}

    def resolve(self, image: str, registry: str | None = None) -> ResolvedImage:
        with self._call("resolve"):
            return self.images.get(image) or ResolvedImage(image if "@" in image else "", problem="no such registry")

    def cluster(self) -> Cluster:
        with self._call("cluster"):
            reserving = self._reserving.values()
            running = [(s, t) for s in reserving for t in s.tasks if t.desired == "running" and t.node]
            reserved: Counter[str] = Counter()
            for service, task in running:
                assert task.node is not None
                reserved[task.node.id] += service.request["TaskTemplate"]["Resources"]["Reservations"].get(
                    "NanoCPUs", 0
                )
            nodes = tuple(
                NodeFacts(
                    id=node.id,
                    hostname=node.name,
                    role="manager",
                    state="ready" if node.up else "down",
                    cpus=node.cpus,
                    free_cpus=node.cpus - reserved[node.id] / 1e9,
                    log_drivers=_LOG_DRIVERS,
                    engine_version=self.engine_version,
                )
                for node in self.nodes.values()
            )
            return Cluster(at=datetime.now(UTC), nodes=nodes)

    def down_nodes(self) -> set[str]:
        with self._call("down_nodes"):
            return {node.id for node in self.nodes.values() if not node.up}

    def node_change(self, node_id: str) -> NodeChange:
        with self._call("node_change"):
            found = (NodeChange(node.back_at) for node in self.nodes.values() if node.id == node_id)
            return next(found, NodeChange())

    def container_times(self, container_id: str) -> ContainerTimes | None:
        with self._call("container_times"):
            task = self._containers.get(container_id)
            container = task.container if task and self._is_here(task) else None
            if container is None:
                return None
            return ContainerTimes(
                container.started_at, container.finished_at, container.oom_killed, container.exit_code
            )

    def logs(
        self, service_id: str, container_id: str | None, timeout: float, tail: int = 0, only: Stream | None = None
    ) -> Iterator[Frame]:
        with self._call("logs"):
            service = self._services.get(service_id)
            if service is None:
                raise EngineNotFound(f"reading logs: service {service_id} not found")
            frames: list[Frame] = []
            for task in service.tasks:
                if task.node and not task.node.up:
                    raise EngineUnavailable("reading logs: the time limit has passed")
                asked = container_id is None and task.runs_or_ran
                if task.container and (asked or container_id == task.container.id):
                    frames += task.container.frames
        yield from (frame for frame in frames[-tail:] if only in {None, frame.stream})

    def events(self) -> Iterator[EngineEvent]:
        listener: queue.SimpleQueue[EngineEvent | None] = queue.SimpleQueue()
        with self._call("events"):
            self.listeners.append(listener)
        try:
            while (event := listener.get()) is not None:
                yield event
        finally:
            self.listeners.remove(listener)
        raise EngineUnavailable("following events: the engine closed the stream")

    # -- for who shows it in another way (tests/support/engine_http.py) ----------------------------------------------

    def __len__(self) -> int:
        return len(self._services)

    def tasks_on(self, nodes: set[str]) -> list[TaskView]:
        """Return the tasks that these nodes have, by the nodes' ids."""
        with self._lock:
            tasks = (task for service in self._services.values() for task in service.tasks)
            return [task.view() for task in tasks if task.node and task.node.id in nodes]

    def by_id(self, service_id: str) -> ServiceView | None:
        """Return a service by its id."""
        with self._lock:
            service = self._services.get(service_id)
            return service.view() if service else None

    def template(self, service_id: str) -> dict[str, Any]:
        """Return the task template that a service was created with; empty when it is gone."""
        service = self._services.get(service_id)
        return dict(service.request["TaskTemplate"]) if service else {}

    def version(self, service_id: str) -> int:
        """Return a number that changes with each update of a service."""
        service = self._services.get(service_id)
        return len(service.tasks) if service else 0

    def service_of(self, container_id: str) -> str:
        """Return the id of a container's service, empty when there is no such container on the engine that answers."""
        task = self._containers.get(container_id)
        return task.service_id if task and self._is_here(task) else ""

    # -- inside -----------------------------------------------------------------------------------------------------

    def _id(self, kind: str) -> str:
        return f"{kind}{next(self._numbers)}"

    def _time(self) -> str:
        """Return the time, never the same twice."""
        self._last_time = max(datetime.now(UTC), self._last_time + timedelta(microseconds=1))
        return self._last_time.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"

    def _add(self, service: _Service) -> None:
        self._services[service.id] = self._by_name[service.name] = service
        if service.request["TaskTemplate"]["Resources"]["Reservations"]:
            self._reserving[service.id] = service
        for label in _forms(service.labels):
            self._by_label[label][service.id] = service

    def _named(self, name: str) -> _Service | None:
        return self._by_name.get(name)

    def _of(self, job: str) -> _Service:
        mine = [s for s in self._services.values() if job in {s.id, s.name, s.labels.get(LABEL_JOB)}]
        assert mine, f"there is no service of {job}"
        return mine[-1]

    def _labelled(self, label: str) -> list[_Service]:
        return list(self._by_label.get(label, {}).values())

    def _check(self, request: dict[str, Any]) -> None:
        name, template = request["Name"], request["TaskTemplate"]
        targets = [mount["Target"] for mount in template["ContainerSpec"].get("Mounts", [])]
        secrets = [secret["SecretID"] for secret in template["ContainerSpec"].get("Secrets", [])]
        unknown = [network["Target"] for network in template["Networks"] if network["Target"] not in self.networks]
        wrong = ""
        if len(name) > 63:
            wrong = "name must be 63 characters or fewer"
        elif unknown:
            wrong = f"network {unknown[0]} not found"
        elif len(set(targets)) < len(targets):
            wrong = "ContainerSpec: duplicate mount point"
        elif gone := set(secrets) - set(self.secrets.values()):
            wrong = f"secret not found: {gone.pop()}"
        for text in template["Placement"].get("Constraints", []):
            try:
                Constraint.parse(text)
            except ValueError:
                wrong = f"value '{text}' is invalid"
        if wrong:
            raise EngineRefused(f"creating service {name}: {wrong}")

    def _new_task(self, service: _Service) -> _Task:
        return _Task(self._id("task"), service.id, self._time(), self._time())

    def _want_end(self, task: _Task) -> None:
        task.desired = "shutdown"
        if service := self._services.get(task.service_id):
            self._ending[service.id] = service

    def _state(self, task: _Task, state: str) -> None:
        task.state = state
        task.timestamp = self._time()
        if state in ENDED_STATES:
            self._want_end(task)

    def _wait_for_node(self, task: _Task, why: str) -> None:
        task.error = f"no suitable node ({why} on {len(self.nodes)} node{'s' * (len(self.nodes) > 1)})"
        self._state(task, "pending")

    def _is_here(self, task: _Task) -> bool:
        return task.node is next(iter(self.nodes.values()))

    def _schedule(self, service: _Service, task: _Task) -> None:
        template = service.request["TaskTemplate"]
        constraints = template["Placement"]["Constraints"]
        cpus = template["Resources"]["Reservations"].get("NanoCPUs", 0) / 1e9
        fitting = [n for n in self.nodes.values() if n.up and all(n.meets(constraint) for constraint in constraints)]
        if not fitting:
            self._wait_for_node(task, "scheduling constraints not satisfied")
            return
        if template.get("LogDriver", {}).get("Name") not in {None, "", "none", *_LOG_DRIVERS}:
            self._wait_for_node(task, "missing plugin")
            return
        task.node = self._choose([node for node in fitting if node.cpus >= cpus])
        if task.node is None:
            self._wait_for_node(task, "insufficient resources")
            return
        task.message = "preparing"
        self._state(task, "preparing")
        image = template["ContainerSpec"]["Image"]
        if image in self.missing_images:
            task.error, task.exit_code = f"No such image: {image}", 0
            self._state(task, "rejected")
        elif self.auto_start:
            self._start(service, task)

    def _choose(self, fitting: list[Node]) -> Node | None:
        return fitting[0] if fitting else None

    def _start(self, service: _Service, task: _Task) -> None:
        container = service.request["TaskTemplate"]["ContainerSpec"]
        words = [*container.get("Command", []), *container.get("Args", [])]
        program = PROGRAMS.get(words[2], _DRIVEN) if words[:2] == ["sh", "-c"] and len(words) == 3 else _DRIVEN
        task.container = _Container(self._id("container"), program)
        self._containers[task.container.id] = task
        task.error = ""
        if words[:1] == [NO_SUCH_PROGRAM]:
            task.message, task.exit_code = "starting", 127
            task.error = f'starting container failed: exec: "{words[0]}": executable file not found in $PATH: unknown'
            self._state(task, "failed")
            return
        task.message = "started"
        self._state(task, "running")
        task.container.started_at = self._time()
        if self.keep_history:
            self.starts.append(service.name)
        self._tell("start", service, task)
        for stream, data in program.output:
            self._print(task.container, stream, data)
        if program.exit_code is not None:
            self._exited(service, task, program.exit_code)

    def _print(self, container: _Container, stream: str, data: bytes) -> None:
        if data:
            assert stream in {"stdout", "stderr"}
            stamp = self._time().encode()
            container.frames.append(Frame("stdout" if stream == "stdout" else "stderr", stamp + b" " + data))

    def _exited(self, service: _Service, task: _Task, code: int) -> None:
        assert task.container is not None
        task.container.finished_at = self._time()
        task.exit_code = task.container.exit_code = code
        if task.desired == "shutdown":
            task.message = "shutdown"
            self._state(task, "shutdown")
        elif code:
            task.error = f"task: non-zero exit ({code})"
            self._state(task, "failed")
        else:
            task.message = "finished"
            self._state(task, "complete")
        self._tell("die", service, task)

    def _terminate(self, service: _Service, task: _Task) -> None:
        assert task.container is not None
        program = task.container.program
        if program.on_term is not None:
            self._print(task.container, "stdout", program.last_words)
        self._exited(service, task, 137 if program.on_term is None else program.on_term)

    def _remove(self, service: _Service) -> None:
        task = service.tasks[0]
        if task.state == "running":
            self._want_end(task)
            self._terminate(service, task)
        del self._services[service.id]
        self._reserving.pop(service.id, None)
        del self._by_name[service.name]
        self._ending.pop(service.id, None)
        for label in _forms(service.labels):
            self._by_label[label].pop(service.id, None)
            if not self._by_label[label]:
                del self._by_label[label]
        for one in service.tasks:
            if one.container:
                self._containers.pop(one.container.id, None)
        for listener in self.listeners:
            listener.put(EngineEvent("remove", service.id))

    def _tell(self, kind: str, service: _Service, task: _Task) -> None:
        if self._is_here(task):
            container = task.container.id if task.container else ""
            what: Literal["start", "die"] = "start" if kind == "start" else "die"
            code = task.exit_code or 0 if what == "die" else None
            job_id = service.labels.get(LABEL_JOB, "")
            event = EngineEvent(what, service.id, task.id, job_id, container, code, self._time())
            for listener in self.listeners:
                listener.put(event)
