"""One node's engine, for asyncio: the containers of jaas there, their events and their output.

``swarm/docker_engine.py`` asks a swarm manager, with threads. This client needs no manager, and follows any number of
containers on one thread. Each answer is read only as fast as its reader takes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import aiohttp

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable
from jaas_submit.model.bounds import whole
from jaas_submit.model.wire_names import LABEL_ATTEMPT, LABEL_JOB, LABEL_SCRUB
from jaas_worker.agent.usage.counters import Counters, of_engine
from jaas_worker.decisions.times import parse_time
from jaas_worker.swarm.engine import ContainerRef, EngineEvent, Frame, SwarmInfo
from jaas_worker.swarm.frames import FrameParser
from jaas_worker.swarm.request.secret_env import names_to_scrub, secret_values, values_in_request

__all__ = ["ContainerFacts", "DockerNode", "NodeEngine", "NodeEvent"]

_READ_BYTES: Final = 2**15
"""Bytes of an answer that are read ahead; at twice that, aiohttp stops reading from the socket."""

_AT_ONCE_BYTES: Final = 2**18
"""The same of output that is read to its end: aiohttp spends less on each of many short pieces, which an engine sends
one by one. Only the output of some containers is read so at a time."""

_STALE_S: Final = 5.0
"""Seconds after an exit when forwarding it is useless: the swarm has reported it."""

_SERVICE, _TASK = "com.docker.swarm.service.id", "com.docker.swarm.task.id"


class NodeEvent(NamedTuple):
    """What happened to a container of a job."""

    kind: Literal["start", "die", "oom", "destroy"]
    """``oom``: the kernel has killed a process of it for its memory."""
    container: ContainerRef
    exit_code: int | None = None
    at: float = 0.0
    """When, in seconds since the epoch by the engine's clock."""

    def as_told(self, node: str) -> EngineEvent | None:
        """Return an exit as workers are told of it; None if it is none, or the swarm has reported it long ago.

        Args:
            node: the swarm's id of the engine's node.
        """
        if self.exit_code is None or time.time() - self.at > _STALE_S:
            return None
        one, at = self.container, datetime.fromtimestamp(self.at, UTC).isoformat()
        return EngineEvent("die", one.service_id, one.task_id, one.job_id, one.id, self.exit_code, at, node)


class ContainerFacts(NamedTuple):
    """What an engine knows of a container."""

    running: bool
    exit_code: int | None
    started_at: str
    finished_at: str
    oom_killed: bool
    log_driver: str
    log_options: dict[str, str]
    pid: int = 0
    """Its main process, as the engine's machine counts them; 0 when it does not run."""
    host_network: bool = False
    """Its network is the node's."""
    memory_limited: bool = False
    """The kernel kills its processes when they use too much."""


class NodeEngine(Protocol):
    """The part of a node's API that an agent uses.

    Every method raises EngineUnavailable when the answer is unknown, EngineNotFound when there is no such container,
    and EngineRefused when the engine refuses.
    """

    @property
    def is_here(self) -> bool:
        """Whether it is an engine of this machine, so that its process numbers are this machine's."""

    async def info(self) -> SwarmInfo:
        """Return what the engine says about itself."""

    async def data_root(self) -> str:
        """Return the folder where it keeps images and containers, on its machine."""

    async def images(self) -> list[str]:
        """Return the names of its images, with tag or with digest, youngest first."""

    async def usage(self, container_id: str) -> tuple[float, Counters]:
        """Return what a container has used until now, and when that was read, in seconds since the epoch."""

    async def started_at(self) -> str:
        """Return when the engine began to run, RFC 3339; empty where it does not tell."""

    async def containers(self, label: str) -> list[ContainerRef]:
        """Return the containers of jobs with this label (``key=value``), also those that have exited."""

    async def inspect(self, container_id: str) -> ContainerFacts:
        """Return what the engine knows of a container."""

    async def secret_values(self, container_id: str, *, service: bool = False) -> frozenset[bytes]:
        """Return the values that are to be replaced in a container's output.

        Args:
            container_id: the container.
            service: ``container_id`` is a service's id, and the swarm is asked.
        """

    def events(self, label: str) -> AsyncGenerator[NodeEvent | None, None]:
        """Yield None when the engine begins to answer, then the events of such containers, until it breaks off."""

    def output(
        self, container_id: str, *, follow: bool, since: str = "", tail: int = 0, service: bool = False
    ) -> AsyncGenerator[list[Frame], None]:
        """Yield a container's log from its beginning, some messages at a time.

        Args:
            container_id: the container.
            follow: go on until it has exited.
            since: no messages before this time, in seconds since the epoch; empty for all.
            tail: no more than so many messages, the last ones; 0 for all.
            service: ``container_id`` is a service's id, and the swarm is asked.
        """

    def archive(self, container_id: str, path: str) -> AsyncGenerator[bytes, None]:
        """Yield a tar archive of a file or folder in a container, which may have exited.

        Args:
            container_id: the container.
            path: in the container; the names in the archive begin with its last part. A symbolic link is archived as
                one; those in the path before it lead to other places in the container, and never out of it.
        """

    async def close(self) -> None:
        """Close all connections."""


class DockerNode:
    """A node's engine behind its Docker API.

    Args:
        host: URL of the API, ``unix://...`` or ``tcp://...``. The variables DOCKER_TLS_VERIFY and DOCKER_CERT_PATH
            count as for `docker`.
        timeout: seconds to wait for an answer; output and events may be silent for any time.

    Raises:
        EngineRefused: it cannot be reached in this way, such as over SSH.
    """

    def __init__(self, host: str, timeout: float = 15.0) -> None:
        self.host = host
        self._timeout = timeout
        self._base, self._socket, self._ssl = _address(host)
        self._open: aiohttp.ClientSession | None = None

    @property
    def is_here(self) -> bool:
        return bool(self._socket)

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:  # it belongs to the loop that runs now
            connector: aiohttp.BaseConnector
            if self._socket:
                connector = aiohttp.UnixConnector(self._socket, limit=0)
            else:
                connector = aiohttp.TCPConnector(limit=0, ssl=self._ssl or True)
            self._open = aiohttp.ClientSession(
                connector=connector,
                headers={"Accept-Encoding": "identity"},  # archives would come packed
                auto_decompress=False,
                trust_env=False,
            )
        return self._open

    async def close(self) -> None:
        if self._open is not None:
            await self._open.close()
            self._open = None

    @asynccontextmanager
    async def _get(
        self,
        what: str,
        path: str,
        query: dict[str, str],
        silence: float | None = None,
        read_ahead: int = _READ_BYTES,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        patience = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout, sock_read=silence)
        with _mapped(what):
            url = f"{self._base}/{path}"
            async with self._session.get(url, params=query, timeout=patience, read_bufsize=read_ahead) as answer:
                if answer.status >= 400:
                    raise _refusal(what, answer.status, (await answer.content.read(4096)).decode(errors="replace"))
                yield answer

    async def _json(self, what: str, path: str, **query: str) -> Any:
        async with self._get(what, path, query, self._timeout) as answer:
            return json.loads(await answer.read())

    async def info(self) -> SwarmInfo:
        what = "asking the engine"
        with _mapped(what):
            info, version = await self._json(what, "info"), await self._json(what, "version")
            swarm = info.get("Swarm") or {}
            return SwarmInfo(
                engine_version=info.get("ServerVersion", ""),
                api_version=version.get("ApiVersion", ""),
                node_id=swarm.get("NodeID", ""),
                node_name=info.get("Name", ""),
                state=swarm.get("LocalNodeState", "inactive"),
                manager=bool(swarm.get("ControlAvailable")),
                error=swarm.get("Error", ""),
                log_driver=info.get("LoggingDriver", ""),
            )

    async def started_at(self) -> str:
        # An engine makes this network anew whenever it starts. Source: moby, daemon/daemon_unix.go, initBridgeDriver.
        what = "asking the engine for its start"
        with contextlib.suppress(EngineNotFound, EngineRefused), _mapped(what):  # there may be none (--bridge=none)
            return str((await self._json(what, "networks/bridge"))["Created"])
        return ""

    async def containers(self, label: str) -> list[ContainerRef]:
        what = "listing containers"
        with _mapped(what):
            found = await self._json(what, "containers/json", all="1", filters=json.dumps({"label": [label]}))
            refs = [_ref(str(item["Id"]), item.get("Labels") or {}) for item in found or ()]
            return [ref for ref in refs if ref is not None]

    async def inspect(self, container_id: str) -> ContainerFacts:
        what = "inspecting a container"
        with _mapped(what):
            found = await self._json(what, f"containers/{container_id}/json")
            state, host = found["State"], found.get("HostConfig") or {}
            log = host.get("LogConfig") or {}
            ended = state.get("Status") in {"exited", "dead"} and not state["StartedAt"].startswith("0001-")
            return ContainerFacts(
                not ended,
                state.get("ExitCode") if ended else None,
                state["StartedAt"],
                state["FinishedAt"],
                bool(state.get("OOMKilled")),
                log.get("Type") or "",
                log.get("Config") or {},
                int(state.get("Pid") or 0),
                host.get("NetworkMode") == "host",
                bool(host.get("Memory")),
            )

    async def secret_values(self, container_id: str, *, service: bool = False) -> frozenset[bytes]:
        what = "inspecting a container"
        with _mapped(what):
            if service:
                return values_in_request((await self._json(what, f"services/{container_id}"))["Spec"])
            config = (await self._json(what, f"containers/{container_id}/json"))["Config"]
            return secret_values(config.get("Env") or (), names_to_scrub(config.get("Labels") or {}))

    async def data_root(self) -> str:
        what = "asking the engine"
        with _mapped(what):
            return str((await self._json(what, "info")).get("DockerRootDir") or "")

    async def images(self) -> list[str]:
        what = "listing images"
        with _mapped(what):
            found = await self._json(what, "images/json")
            names = (
                name for item in found or () for kind in ("RepoTags", "RepoDigests") for name in item.get(kind) or ()
            )
            return [name for name in names if "<none>" not in name]

    async def usage(self, container_id: str) -> tuple[float, Counters]:
        what = "asking what a container uses"
        with _mapped(what):
            found = await self._json(
                what, f"containers/{container_id}/stats", **{"stream": "false", "one-shot": "true"}
            )
            read = parse_time(str(found.get("read")))
            return read.timestamp() if read else time.time(), of_engine(found)

    async def events(self, label: str) -> AsyncGenerator[NodeEvent | None, None]:
        what = "following events"
        wanted = {"type": ["container"], "event": ["start", "die", "oom", "destroy"], "label": [label]}
        async with self._get(what, "events", {"filters": json.dumps(wanted)}) as answer:
            yield None
            rest = b""
            while piece := await answer.content.readany():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.strip() and (event := _event(json.loads(line))):
                        yield event
        raise EngineUnavailable("following events: the engine closed the stream")

    async def output(
        self, container_id: str, *, follow: bool, since: str = "", tail: int = 0, service: bool = False
    ) -> AsyncGenerator[list[Frame], None]:
        query = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow))}
        if since:
            query["since"] = since
        if tail:
            query["tail"] = str(tail)
        parser = FrameParser()
        path = f"{'services' if service else 'containers'}/{container_id}/logs"
        # An engine is waited for as long as its container is silent; a swarm hangs while the container's node is down.
        silence = None if follow and not service else self._timeout
        read_ahead = _READ_BYTES if follow else _AT_ONCE_BYTES
        async with self._get("reading output", path, query, silence, read_ahead) as answer:
            while piece := await answer.content.readany():
                frames = list(parser.feed(piece))
                del piece  # a container may be silent for long: none of what it printed is held meanwhile
                if frames:
                    yield frames
                del frames
        if last := parser.end():
            yield last

    async def archive(self, container_id: str, path: str) -> AsyncGenerator[bytes, None]:
        what = "reading files"
        async with self._get(what, f"containers/{container_id}/archive", {"path": path}, self._timeout) as answer:
            while piece := await answer.content.readany():
                yield piece


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise EngineUnavailable(f"{what}: the engine does not answer ({error or type(error).__name__})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineUnavailable(f"{what}: its answer is not valid in Docker's API ({type(error).__name__})") from error


def _refusal(what: str, status: int, body: str) -> EngineRefused | EngineUnavailable:
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        said = body.strip()
    if status == 404:
        return EngineNotFound(f"{what}: {said}")
    # 501: the log driver cannot be read. Source: moby, daemon/logs.go.
    if status == 501 or (400 <= status < 500 and status not in {408, 429}):
        return EngineRefused(f"{what}: {said}")
    return EngineUnavailable(f"{what}: {said}", status)


def _ref(container_id: str, labels: dict[str, str]) -> ContainerRef | None:
    job_id, attempt = labels.get(LABEL_JOB, ""), labels.get(LABEL_ATTEMPT, "")
    if not job_id or not attempt.isdecimal():
        return None
    found = labels.get(_SERVICE, ""), labels.get(_TASK, "")
    return ContainerRef(container_id, job_id, whole(attempt), *found, scrubbed=bool(labels.get(LABEL_SCRUB)))


def _event(item: dict[str, Any]) -> NodeEvent | None:
    kind, actor = item.get("Action"), item.get("Actor") or {}
    labels = actor.get("Attributes") or {}
    ref = _ref(actor.get("ID", ""), labels)
    if ref is None or kind not in {"start", "die", "oom", "destroy"}:
        return None
    code = labels.get("exitCode", "")
    exited = whole(code, 3) if kind == "die" and code.isdecimal() and len(code) <= 3 else None
    return NodeEvent(kind, ref, exited, item.get("timeNano", 0) / 1e9)


def _address(host: str) -> tuple[str, str, ssl.SSLContext | None]:
    """Return base URL, path of the unix socket, and TLS of an engine's API."""
    url = urlsplit(host)
    if url.scheme == "unix":
        return "http://docker", url.netloc + url.path, None
    if url.scheme in {"tcp", "http", "https"} and url.netloc:
        if url.scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY"):
            folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
            authority = folder / "ca.pem"
            context = ssl.create_default_context(cafile=str(authority) if authority.exists() else None)
            if (folder / "cert.pem").exists():
                context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
            return f"https://{url.netloc}", "", context
        return f"http://{url.netloc}", "", None
    raise EngineRefused(f"an agent reaches an engine at unix:// or tcp:// only, not at {url.scheme or host}://")
