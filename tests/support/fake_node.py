"""A node's engine in memory, which the test drives; tests/contract/test_node_engine.py holds it to a real one.

    node = FakeNode()
    node.start("j1")
    node.write("j1", "stdout", b"hello\\n")
    node.exit("j1", 4)

A job's id stands for its only container. All methods but the engine's own must be called on the loop's thread.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from jaas_submit.errors import EngineNotFound, EngineRefused, EngineUnavailable
from jaas_submit.model.logs import Stream
from jaas_worker.agent.node_engine import ContainerFacts, NodeEvent
from jaas_worker.agent.usage.counters import Counters
from jaas_worker.swarm.engine import ContainerRef, Frame, SwarmInfo

__all__ = ["FakeNode"]

_NEVER = "0001-01-01T00:00:00Z"


@dataclass
class _Container:
    ref: ContainerRef
    driver: str
    options: dict[str, str]
    frames: list[tuple[float, Frame]] = field(default_factory=list)
    started_at: str = _NEVER
    finished_at: str = _NEVER
    exit_code: int | None = None
    oom_killed: bool = False
    memory_limited: bool = False
    used: Counters = field(default_factory=Counters)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    archives: dict[str, Iterable[bytes]] = field(default_factory=dict)

    def change(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class FakeNode:
    """A ``NodeEngine`` in memory.

    Args:
        name: of the node.
    """

    def __init__(self, name: str = "node1") -> None:
        self.name = name
        self.away = False
        """True: no call is answered, and streams break."""
        self.silent_end = False
        """True: output that is followed does not end with its container (moby #39235)."""
        self.deaf = False
        """True: the connection for events is open, and nothing comes on it."""
        self.host = ""
        """By this name the first container can be asked for, too."""
        self.image_names: list[str] = []
        self.started = ""
        """When it began to run; empty where it does not tell."""
        self.secrets: dict[str, frozenset[bytes]] = {}
        """Job -> the values that are to be replaced in its container's output."""
        self.calls: Counter[str] = Counter()
        self.handed_out: Counter[str] = Counter()
        """Container -> messages of its output that readers have taken."""
        self._containers: dict[str, _Container] = {}
        self._listeners: list[asyncio.Queue[NodeEvent | None]] = []
        self._numbers = itertools.count(1)
        self._clock = itertools.count(1_700_000_000_000_000_000, 1_000_003)

    # -- the test's side ----------------------------------------------------------------------------------------------

    def start(self, job_id: str, attempt: int = 1, driver: str = "local", **options: str) -> ContainerRef:
        """Start a job's container."""
        number = next(self._numbers)
        named = f"container{number}", job_id, attempt, f"service{number}", f"task{number}"
        ref = ContainerRef(*named, scrubbed=job_id in self.secrets)
        self.run(ref, driver, **options)
        return ref

    def run(self, ref: ContainerRef, driver: str = "local", **options: str) -> None:
        """Start a container that has its ids from elsewhere."""
        container = _Container(ref, driver, options, started_at=self._now())
        self._containers[ref.job_id] = container
        self._tell("start", container)

    def write(self, job_id: str, stream: Stream, *pieces: bytes) -> None:
        """Let a container write; the pieces share their time, as the parts of a long line do."""
        container = self._containers[job_id]
        stamp, at = self._now(), time.time()
        container.frames += [(at, Frame(stream, stamp.encode() + b" " + piece)) for piece in pieces]
        container.change()

    def limit_memory(self, job_id: str) -> None:
        """Let a container have a limit of memory."""
        self._containers[job_id].memory_limited = True

    def tell_exit(self, job_id: str) -> None:
        """Tell of an exit that was kept back."""
        self._tell("die", self._containers[job_id])

    def exit(self, job_id: str, code: int = 0, *, oom: bool = False, told: bool = True) -> None:
        """End a container; ``told`` False keeps the event back."""
        container = self._containers[job_id]
        container.exit_code, container.finished_at, container.oom_killed = code, self._now(), oom
        container.change()
        if told:
            self._tell("die", container)

    def keep(self, job_id: str, path: str, archive: Iterable[bytes]) -> None:
        """Let a container have a file or folder, whose tar archive comes in these pieces."""
        self._containers[job_id].archives[path] = archive

    def kill_child(self, job_id: str) -> None:
        """Let the kernel kill a process of a container for its memory."""
        self._tell("oom", self._containers[job_id])

    def use(self, job_id: str, used: Counters) -> None:
        """Say what a container has used until now."""
        self._containers[job_id].used = used

    def forget_beginning(self, job_id: str, messages: int) -> None:
        """Rotate a container's oldest messages away."""
        del self._containers[job_id].frames[:messages]

    def cut(self) -> None:
        """Break all streams, as an engine's restart does."""
        self.away = True
        for container in self._containers.values():
            container.change()
        for listener in self._listeners:
            listener.put_nowait(None)

    def remove(self, job_id: str) -> None:
        """Remove a container with its log."""
        container = self._containers.pop(job_id)
        container.change()
        self._tell("destroy", container)

    def _tell(self, kind: Literal["start", "die", "oom", "destroy"], container: _Container) -> None:
        code = container.exit_code if kind == "die" else None
        for listener in self._listeners:
            listener.put_nowait(NodeEvent(kind, container.ref, code, time.time()))

    def _now(self) -> str:
        seconds, nanos = divmod(next(self._clock), 10**9)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"

    # -- the engine's API ---------------------------------------------------------------------------------------------

    def _called(self, method: str) -> None:
        self.calls[method] += 1
        if self.away:
            raise EngineUnavailable(f"{method}: the engine does not answer (test: away)")

    def _find(self, container_id: str) -> _Container:
        for container in self._containers.values():
            if container_id in {container.ref.id, container.ref.service_id, self.host}:
                return container
        raise EngineNotFound(f"No such container: {container_id}")

    async def info(self) -> SwarmInfo:
        self._called("info")
        return SwarmInfo("fake", "1.41", f"id-of-{self.name}", self.name, "active", manager=False)

    @property
    def is_here(self) -> bool:
        return False

    async def data_root(self) -> str:
        return ""

    async def images(self) -> list[str]:
        self._called("images")
        return list(self.image_names)

    async def usage(self, container_id: str) -> tuple[float, Counters]:
        self._called("usage")
        found = self._find(container_id)
        return time.time(), found.used if found.exit_code is None else Counters()

    async def started_at(self) -> str:
        self._called("started_at")
        return self.started

    async def containers(self, label: str) -> list[ContainerRef]:
        self._called("containers")
        return [container.ref for container in self._containers.values()]

    async def inspect(self, container_id: str) -> ContainerFacts:
        self._called("inspect")
        found = self._find(container_id)
        return ContainerFacts(
            found.exit_code is None,
            found.exit_code,
            found.started_at,
            found.finished_at,
            found.oom_killed,
            found.driver,
            found.options,
            memory_limited=found.memory_limited,
        )

    async def secret_values(self, container_id: str, *, service: bool = False) -> frozenset[bytes]:
        self._called("secret_values")
        return self.secrets.get(self._find(container_id).ref.job_id, frozenset())

    async def events(self, label: str) -> AsyncGenerator[NodeEvent | None, None]:
        self._called("events")
        listener: asyncio.Queue[NodeEvent | None] = asyncio.Queue()
        self._listeners.append(listener)
        try:
            yield None
            while (event := await listener.get()) is not None:
                if not self.deaf:
                    yield event
        finally:
            self._listeners.remove(listener)
        raise EngineUnavailable("following events: the engine closed the stream")

    async def output(
        self, container_id: str, *, follow: bool, since: str = "", tail: int = 0, service: bool = False
    ) -> AsyncGenerator[list[Frame], None]:
        self._called("follow" if follow else "output")
        container = self._find(container_id)
        if container.driver == "none":
            raise EngineRefused("reading output: configured logging driver does not support reading")
        begin = datetime.fromtimestamp(float(since), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") if since else ""
        at = max(len(container.frames) - tail, 0) if tail else 0
        while True:
            changed = container.changed
            while at < len(container.frames):
                _, frame = container.frames[at]
                at += 1
                if frame.data.decode("latin-1") >= begin:
                    self.handed_out[container_id] += 1
                    yield [frame]
            if self.away:
                raise EngineUnavailable("reading output: the engine closed the stream (test: away)")
            if not follow or (container.exit_code is not None and not self.silent_end):
                return
            await changed.wait()

    async def archive(self, container_id: str, path: str) -> AsyncGenerator[bytes, None]:
        self._called("archive")
        kept = self._find(container_id).archives
        if path not in kept:
            raise EngineNotFound(f"reading files: Could not find the file {path} in container {container_id}")
        for piece in kept[path]:
            if self.away:
                raise EngineUnavailable("reading files: the engine closed the stream (test: away)")
            yield piece

    async def close(self) -> None:
        """Nothing is open."""
