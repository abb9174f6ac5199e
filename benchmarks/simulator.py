"""A simulated engine: the Docker API that jaas uses, with a swarm behind it that takes time and runs nothing.

    python -m benchmarks.simulator --socket /tmp/engine.sock --nodes 100

It is the engine in memory of the tests (tests/support/fake_swarm.py, held to a real one by tests/contract) behind HTTP
(tests/support/engine_http.py), with a clock: containers start and end by themselves, and answers take a while. What it
cannot tell: what a real engine's answers, its raft log and its containers cost. What it can: what workers and Redis
do with more services than one machine can hold.

A container's command says what it "does": ``sleep 3`` runs for three seconds, any other ends at once; each prints one
line and ends with exit code 0. A constraint that no node meets leaves it pending, as on a real swarm.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import re
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tornado.netutil import bind_unix_socket

from tests.support.engine_http import make_server
from tests.support.fake_swarm import FakeSwarm, Node
from tests.support.wait import eventually

__all__ = ["Model", "SimulatedSwarm", "simulator"]

_SLEEP = re.compile(r"\bsleep ([0-9.]+)")
_LISTS = frozenset({"all_tasks", "ended_tasks", "services", "tasks_on"})


@dataclass(frozen=True)
class Model:
    """How long things take, in seconds; about what Docker 20.10 takes on 2 cores."""

    start: float = 0.5
    """From a service's creation to its running container, on a node that does nothing else."""
    starts: float = 3.0
    """Containers that one node starts a second."""
    answer: float = 0.002
    """Any answer."""
    create: float = 0.004
    """The answer to a creation: a write to the raft log."""
    look: float = 2e-6
    """For each task there is, in the answer to a filtered list: the engine looks at all of them."""


class SimulatedSwarm(FakeSwarm):
    """An engine in memory whose containers start and end by themselves.

    Args:
        nodes: how many nodes; the first one's engine is the one that answers.
        model: how long things take.
    """

    def __init__(self, nodes: int, model: Model) -> None:
        super().__init__(tuple(f"node{number}" for number in range(1, nodes + 1)), auto_start=False)
        self.keep_history = False
        self.model = model
        self._turn = itertools.count()
        self._free_at: defaultdict[str, float] = defaultdict(float)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._soon = threading.Condition()
        self._clock = threading.Thread(target=self._run, name="simulator-clock", daemon=True)
        self._clock.start()

    def latency(self, method: str) -> float:
        """Return how long the answer to a method takes."""
        if method == "create":
            return self.model.create
        return self.model.answer + (self.model.look * len(self) if method in _LISTS else 0.0)

    def _choose(self, fitting: list[Node]) -> Node | None:
        return fitting[next(self._turn) % len(fitting)] if fitting else None

    def _schedule(self, service: Any, task: Any) -> None:
        super()._schedule(service, task)
        if task.state != "preparing":
            return
        now = time.monotonic()
        began = max(self._free_at[task.node.id], now)
        self._free_at[task.node.id] = began + 1 / self.model.starts
        self._at(began + self.model.start, lambda: self._begin(service, task))

    def _begin(self, service: Any, task: Any) -> None:
        with self._lock:
            if service.id not in self._services or task.state != "preparing":
                return  # removed or stopped meanwhile
            self._start(service, task)
            self._print(task.container, "stdout", b"simulated\n")
        words = service.request["TaskTemplate"]["ContainerSpec"].get("Args", [])
        asleep = _SLEEP.search(" ".join(words))
        self._at(time.monotonic() + (float(asleep[1]) if asleep else 0.0), lambda: self._finish(service, task))

    def _finish(self, service: Any, task: Any) -> None:
        with self._lock:
            if service.id in self._services and task.state == "running":
                self._exited(service, task, 0)

    def _at(self, when: float, what: Callable[[], None]) -> None:
        with self._soon:
            heapq.heappush(self._due, (when, next(self._order), what))
            self._soon.notify()

    def _run(self) -> None:
        while True:
            with self._soon:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._soon.wait(self._due[0][0] - time.monotonic() if self._due else None)
                _, _, what = heapq.heappop(self._due)
            what()


@click.command()
@click.option("--socket", "path", required=True, help="Unix socket to listen on.")
@click.option("--nodes", type=click.IntRange(1), default=100, show_default=True, help="Nodes of the swarm.")
@click.option("--start", type=float, default=Model.start, show_default=True, help="Seconds that a start takes.")
@click.option("--starts", type=float, default=Model.starts, show_default=True, help="Starts a second and node.")
def main(path: str, nodes: int, start: float, starts: float) -> None:
    """Serve a simulated engine until SIGTERM."""

    async def serve() -> None:
        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        engine = SimulatedSwarm(nodes, Model(start=start, starts=starts))
        server = make_server(engine, engine.latency)
        server.add_socket(bind_unix_socket(path))
        await over.wait()
        engine.close()

    asyncio.run(serve())


@contextlib.contextmanager
def simulator(
    folder: Path, *, nodes: int = 100, start: float = Model.start, starts: float = Model.starts
) -> Iterator[tuple[str, int]]:
    """Run a simulated engine in a process of its own; yields its DOCKER_HOST and its process id.

    Args:
        folder: for its socket.
        nodes: how many nodes its swarm has.
        start: seconds that a container takes to start on an idle node.
        starts: containers that one node starts a second.
    """
    path = folder / "simulator.sock"
    command = [sys.executable, "-m", "benchmarks.simulator", "--socket", str(path)]
    options = ["--nodes", str(nodes), "--start", str(start), "--starts", str(starts)]
    process = subprocess.Popen([*command, *options], cwd=Path(__file__).parents[1])
    try:
        eventually(path.exists, 30, "the simulated engine to listen")
        yield f"unix://{path}", process.pid
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
