"""The engine in memory behind the Docker HTTP API: what jaas_worker/swarm/docker_engine.py asks for, and no more.

    with serving(FakeSwarm(), "/tmp/engine.sock") as host:
        Swarm(host).info()

tests/contract/test_engine.py holds it to what a real engine does. Requests and answers have the form of Docker Engine
API 1.41; a task or service is shown as whole as a real engine shows it, since its size is what reading it costs.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_unix_socket
from tornado.web import Application, HTTPError, RequestHandler

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable
from jaas_submit.model.logs import STREAMS
from jaas_submit.model.wire_names import LABEL_JOB
from jaas_worker.swarm.engine import EngineEvent, ServiceView, TaskView
from tests.support.fake_swarm import FakeSwarm

__all__ = ["Latency", "make_server", "serving"]


# What it says of a client that goes away in the middle of an answer is of no interest.
logging.getLogger("tornado.general").setLevel(logging.CRITICAL)

Latency = Callable[[str], float]
"""Takes the engine's method (as in jaas_worker.swarm.engine.Engine) and returns the seconds before its answer."""

_STREAMS = {"stdout": 1, "stderr": 2}
_BROKEN = 3
"""Number of the stream on which an engine tells that it cannot go on."""


class _Shown:
    """Tasks and services as JSON; what has not changed since it was shown last is not written anew."""

    def __init__(self, engine: FakeSwarm) -> None:
        self.engine = engine
        self._tasks: dict[str, tuple[TaskView, bytes]] = {}

    def tasks(self, views: list[TaskView]) -> bytes:
        if len(self._tasks) > 2 * len(self.engine) + 1000:
            self._tasks.clear()  # most of them are gone
        return b"[" + b",".join([self._task(view) for view in views]) + b"]"

    def _task(self, view: TaskView) -> bytes:
        known = self._tasks.get(view.id)
        if known and known[0] == view:
            return known[1]
        text = json.dumps(self._write(view)).encode()
        self._tasks[view.id] = (view, text)
        return text

    def _write(self, view: TaskView) -> dict[str, Any]:
        template = self.engine.template(view.service_id)
        status: dict[str, Any] = {"Timestamp": view.timestamp, "State": view.state, "Message": view.message}
        if view.error:
            status["Err"] = view.error
        if view.container_id or view.exit_code is not None:
            status["ContainerStatus"] = {
                "ContainerID": view.container_id or "",
                "PID": 0,
                "ExitCode": view.exit_code or 0,
            }
        made = {
            "ID": view.id,
            "Version": {"Index": 1},
            "CreatedAt": view.created_at,
            "UpdatedAt": view.timestamp,
            "Labels": {},
            "Spec": {**template, "ForceUpdate": 0},
            "ServiceID": view.service_id,
            "Slot": 1,
            "Status": {**status, "PortStatus": {}},
            "DesiredState": view.desired,
        }
        return {**made, "NodeID": view.node_id} if view.node_id else made

    def service(self, view: ServiceView) -> dict[str, Any]:
        return {
            "ID": view.id,
            "Version": {"Index": self.engine.version(view.id)},
            "CreatedAt": view.created_at,
            "UpdatedAt": view.created_at,
            "Spec": {
                "Name": view.name,
                "Labels": view.labels,
                "TaskTemplate": {**self.engine.template(view.id), "ForceUpdate": 0, "Runtime": "container"},
                "Mode": {"Replicated": {"Replicas": 1}},
                "EndpointSpec": {"Mode": "dnsrr"},
            },
            "Endpoint": {"Spec": {}},
        }


class _Handler(RequestHandler):
    """One request. ``initialize`` gets what all of them share."""

    def initialize(self, engine: FakeSwarm, shown: _Shown, latency: Latency) -> None:
        self.engine = engine
        self.shown = shown
        self._latency = latency

    def set_default_headers(self) -> None:
        self.set_header("Content-Type", "application/json")

    def prepare(self) -> None:
        self.set_header("Api-Version", self.engine.api_versions[1])
        if asked := re.match(r"/v([0-9.]+)/", self.request.path):
            (oldest, newest), version = self.engine.api_versions, asked[1]
            if _number(version) < _number(oldest):
                why = f"client version {version} is too old. Minimum supported API version is {oldest}"
                raise HTTPError(400, f"{why}, please upgrade your client to a newer version")
            if _number(version) > _number(newest):
                raise HTTPError(400, f"client version {version} is too new. Maximum supported API version is {newest}")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1]
        self.finish({"message": getattr(error, "log_message", None) or str(error)})

    def log_exception(self, *_: Any) -> None:
        """An error is an answer like any other; whoever asked will tell."""

    async def call(self, method: str, *args: Any) -> Any:
        """Return what the engine says, after the time that a real one would take; its errors become HTTP's."""
        if pause := self._latency(method):
            await asyncio.sleep(pause)
        try:
            return getattr(self.engine, method)(*args)
        except EngineNotFound as error:
            raise HTTPError(404, _plain(error)) from error
        except EngineRefused as error:
            raise HTTPError(400, _plain(error)) from error
        except EngineUnavailable as error:
            raise HTTPError(503, _plain(error)) from error

    @property
    def filters(self) -> dict[str, list[str]]:
        made = json.loads(self.get_query_argument("filters", "{}"))
        # A client may send a list, or an object whose keys are the values.
        return {name: list(values) for name, values in made.items()}

    def label(self) -> str:
        labels = self.filters.get("label", [])
        if len(labels) != 1:
            raise HTTPError(400, "one label is understood here")
        return labels[0]

    def prefix(self) -> str:
        return "".join(self.filters.get("name", []))

    def say(self, what: Any, status: int = 200) -> None:
        self.set_status(status)
        # tornado itself refuses lists
        self.finish(what if isinstance(what, bytes) else json.dumps(what))


def _plain(error: Exception) -> str:
    """Return an error's text without what its caller put in front (it will be put there again)."""
    return str(error).partition(": ")[2] or str(error)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


class _Version(_Handler):
    async def get(self) -> None:
        oldest, newest = self.engine.api_versions
        self.say({"Version": "simulated", "ApiVersion": newest, "MinAPIVersion": oldest})


class _Info(_Handler):
    async def get(self) -> None:
        info = await self.call("info")
        swarm = {"NodeID": info.node_id, "LocalNodeState": info.state, "ControlAvailable": info.manager, "Error": ""}
        self.say({"ServerVersion": "simulated", "Name": info.node_name, "Swarm": swarm})


class _Nodes(_Handler):
    async def get(self) -> None:
        cluster = await self.call("cluster")
        self.say(
            [
                {
                    "ID": node.id,
                    "Spec": {"Role": node.role, "Availability": node.availability, "Labels": node.labels},
                    "Description": {
                        "Hostname": node.hostname,
                        "Platform": {"Architecture": "x86_64", "OS": "linux"},
                        "Resources": {"NanoCPUs": int(node.cpus * 1e9), "MemoryBytes": node.memory},
                        "Engine": {"Plugins": [{"Type": "Log", "Name": name} for name in node.log_drivers]},
                    },
                    "Status": {"State": node.state, "Addr": "192.0.2.1"},
                }
                for node in cluster.nodes
            ]
        )


class _Node(_Handler):
    async def get(self, node: str) -> None:
        change = await self.call("node_change", node)
        if not change.at:
            raise HTTPError(404, f"node {node} not found")
        spec = {"Availability": "drain" if change.drained else "active"}
        self.say({"ID": node, "UpdatedAt": change.at, "Spec": spec})


class _Tasks(_Handler):
    async def get(self) -> None:
        filters = self.filters
        if services := filters.get("service"):
            for service in services:
                if self.engine.by_id(service) is None:
                    raise HTTPError(404, f"service {service} not found")
            found = await self.call("tasks_of", *services)
        elif filters.get("desired-state") == ["shutdown"]:
            found = await self.call("ended_tasks", self.label())
        elif "node" in filters:
            found = await self.call("tasks_on", set(filters["node"]))
        else:
            found = await self.call("all_tasks", self.label())
        if wanted := filters.get("desired-state"):
            found = [task for task in found if task.desired in wanted]
        self.say(self.shown.tasks(found))


class _Services(_Handler):
    async def get(self) -> None:
        views = await self.call("services", self.label(), self.prefix())
        self.say([self.shown.service(view) for view in views])

    async def post(self) -> None:
        request = json.loads(self.request.body)
        made = await self.call("create", request)
        if made is None:
            raise HTTPError(409, f"rpc error: code = AlreadyExists desc = name conflicts with {request['Name']}")
        self.say({"ID": made.id}, 201)


class _Service(_Handler):
    async def get(self, service: str) -> None:
        self.say(self.shown.service(await self._named(service)))

    async def post(self, service: str) -> None:
        view = await self._named(service)
        if int(self.get_query_argument("version")) != self.engine.version(view.id):
            raise HTTPError(500, "rpc error: code = Unknown desc = update out of sequence")
        if json.loads(self.request.body)["TaskTemplate"]["Placement"]["Constraints"] != ["node.id==none"]:
            raise HTTPError(400, "no other update is understood here")
        await self.call("stop", view.id)
        self.say({})

    async def delete(self, service: str) -> None:
        await self.call("remove", (await self._named(service)).id)
        self.set_status(200)

    async def _named(self, service: str) -> ServiceView:
        found: ServiceView | None = self.engine.by_id(service) or await self.call("find", service)
        if found is None:
            raise HTTPError(404, f"service {service} not found")
        return found


class _Configs(_Handler):
    async def get(self) -> None:
        filters, found = self.filters, self.engine.config_files
        if "id" in filters:
            names = [name for name, made in found.items() if made[0] in filters["id"]]
        elif "label" in filters:
            names = list(await self.call("configs", self.label(), self.prefix()))
        else:
            names = [name for name in found if any(name.startswith(one) for one in filters["name"])]
        self.say([{"ID": found[name][0], "Spec": _config(name, *found[name][1:])} for name in names])

    async def post(self) -> None:
        body = json.loads(self.request.body)
        if body["Name"] in self.engine.config_files:
            raise HTTPError(409, "rpc error: code = AlreadyExists desc = config already exists")
        data = base64.b64decode(body["Data"])
        self.say({"ID": await self.call("create_config", body["Name"], body["Labels"], data)}, 201)


def _config(name: str, labels: dict[str, str], data: bytes) -> dict[str, Any]:
    return {"Name": name, "Labels": labels, "Data": base64.b64encode(data).decode("ascii")}


class _Config(_Handler):
    async def get(self, config: str) -> None:
        name = self._name(config)
        if name not in self.engine.config_files:
            raise HTTPError(404, f"config {config} not found")
        id_, labels, data = self.engine.config_files[name]
        self.say({"ID": id_, "Spec": _config(name, labels, data)})

    def _name(self, config: str) -> str:
        return next((name for name, made in self.engine.config_files.items() if made[0] == config), config)

    async def delete(self, config: str) -> None:
        name = self._name(config)
        if not await self.call("remove_config", name, {}):
            raise HTTPError(404, f"config {config} not found")
        self.set_status(204)


class _Secrets(_Handler):
    async def get(self) -> None:
        filters, found = self.filters, self.engine.secrets
        # As a real engine does: names and ids match by their beginning.
        names = [n for n in found if any(n.startswith(one) for one in filters.get("name", [""]))]
        names = [n for n in names if any(found[n].startswith(one) for one in filters.get("id", [""]))]
        labels = self.engine.labels_of
        self.say([{"ID": found[name], "Spec": {"Name": name, "Labels": labels.get(name, {})}} for name in names])

    async def post(self) -> None:
        name = json.loads(self.request.body)["Name"]
        self.engine.secrets[name] = f"id-of-{name}"
        self.say({"ID": f"id-of-{name}"}, 201)


class _Network(_Handler):
    async def get(self, name: str) -> None:
        found = await self.call("network", unquote(name))
        if found is None:
            raise HTTPError(404, f"network {name} not found")
        said = {"Id": found.id, "Name": found.name, "Driver": found.driver, "Scope": found.scope}
        self.say({**said, "Attachable": found.attachable, "Labels": dict(found.labels)})


class _Secret(_Handler):
    async def delete(self, secret: str) -> None:
        self.engine.secrets = {name: id_ for name, id_ in self.engine.secrets.items() if id_ != secret}
        self.set_status(204)


class _Container(_Handler):
    async def get(self, container: str) -> None:
        times = await self.call("container_times", container)
        if times is None:
            raise HTTPError(404, f"No such container: {container}")
        state = {
            "Status": "running" if times.exit_code is None else "exited",
            "StartedAt": times.started_at,
            "FinishedAt": times.finished_at,
            "OOMKilled": times.oom_killed,
            "ExitCode": times.exit_code or 0,
        }
        self.say({"Id": container, "State": state})


class _Logs(_Handler):
    """Output, multiplexed. Source: Docker Engine API, "Attach to a container", section "Stream format"."""

    async def get(self, kind: str, name: str) -> None:
        service, container = (name, None)
        if kind == "containers":
            service, container = self.engine.service_of(name), name
            if not service:
                raise HTTPError(404, f"No such container: {name}")
        self.set_header("Content-Type", "application/vnd.docker.raw-stream")
        tail = self.get_query_argument("tail", "all")
        lines = 0 if tail == "all" else int(tail)
        asked = [stream for stream in STREAMS if self.get_query_argument(stream, "0") == "1"]
        only = asked[0] if len(asked) == 1 else None
        frames = await self.call("logs", service, container, 60.0, lines, only)
        try:
            for frame in frames:
                self._piece(_STREAMS[frame.stream], frame.data)
        except EngineNotFound as error:
            raise HTTPError(404, _plain(error)) from error
        except EngineUnavailable as error:
            self._piece(_BROKEN, _plain(error).encode())
        await self.flush()

    def _piece(self, stream: int, data: bytes) -> None:
        self.write(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)


class _Events(_Handler):
    async def get(self) -> None:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[EngineEvent | None] = asyncio.Queue()

        def follow() -> None:
            try:
                for event in self.engine.events():
                    loop.call_soon_threadsafe(events.put_nowait, event)
                    if self._over:
                        return
            except (EngineUnavailable, RuntimeError):  # no more of them, or no loop
                pass
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, None)

        self._over = False
        threading.Thread(target=follow, name="engine-events", daemon=True).start()
        try:
            await self.flush()
            while (event := await events.get()) is not None:
                self.write(json.dumps(_event(event)) + "\n")
                await self.flush()
        except StreamClosedError:
            pass
        finally:
            self._over = True


def _event(event: EngineEvent) -> dict[str, Any]:
    if event.kind == "remove":
        return {"Type": "service", "Action": "remove", "Actor": {"ID": event.service_id, "Attributes": {}}}
    attributes = {
        "com.docker.swarm.service.id": event.service_id,
        LABEL_JOB: event.job_id,
        "com.docker.swarm.task.id": event.task_id,
    }
    if event.exit_code is not None:
        attributes["exitCode"] = str(event.exit_code)
    actor = {"ID": event.container_id, "Attributes": attributes}
    at = datetime.fromisoformat(event.at).timestamp()
    return {"Type": "container", "Action": event.kind, "Actor": actor, "timeNano": int(1e9 * at)}


class _Unknown(_Handler):
    async def get(self, *_: str) -> None:
        """Neither a registry nor an image is known here."""
        raise HTTPError(404, f"{unquote(self.request.path)} is not known")


def make_server(engine: FakeSwarm, latency: Latency = lambda _method: 0.0) -> HTTPServer:
    """Return a server of the API that listens nowhere yet.

    Args:
        engine: what answers.
        latency: how long each answer takes.
    """
    shared = {"engine": engine, "shown": _Shown(engine), "latency": latency}
    routes: list[tuple[str, type[RequestHandler]]] = [
        ("/version", _Version),
        ("/info", _Info),
        ("/nodes", _Nodes),
        ("/nodes/([^/]+)", _Node),
        ("/tasks", _Tasks),
        ("/services", _Services),
        ("/services/create", _Services),
        ("/services/([^/]+)", _Service),
        ("/services/([^/]+)/update", _Service),
        ("/configs", _Configs),
        ("/configs/create", _Configs),
        ("/configs/([^/]+)", _Config),
        ("/secrets", _Secrets),
        ("/secrets/create", _Secrets),
        ("/secrets/([^/]+)", _Secret),
        ("/networks/([^/]+)", _Network),
        ("/containers/([^/]+)/json", _Container),
        ("/(containers|services)/([^/]+)/logs", _Logs),
        ("/events", _Events),
        ("/.*", _Unknown),
    ]
    application = Application(
        [(rf"(?:/v[0-9.]+)?{path}", handler, shared) for path, handler in routes],
        log_function=lambda _handler: None,
    )
    return HTTPServer(application, max_body_size=10**9)


@contextmanager
def serving(engine: FakeSwarm, path: str, latency: Latency = lambda _method: 0.0) -> Iterator[str]:
    """Serve an engine on a unix socket, in a thread; yields its DOCKER_HOST.

    Args:
        engine: what answers.
        path: of the socket.
        latency: how long each answer takes.
    """
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = make_server(engine, latency)
        server.add_socket(bind_unix_socket(path))
        loop.call_soon(ready.set)
        loop.run_forever()
        server.stop()
        loop.run_until_complete(server.close_all_connections())
        loop.close()

    thread = threading.Thread(target=run, name="engine-http", daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield f"unix://{path}"
    finally:
        engine.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
