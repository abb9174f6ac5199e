"""How long jaas takes where nothing else does: from submit to the service, from the container's end to ``wait()``.

Both ends of each time are seen from outside of the worker: the engine's own events say when the service was stored and
when the container died, this process when it called ``submit`` and when ``wait`` returned.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

import docker

from benchmarks.harness import Options, Row, Target, say
from benchmarks.home import client_of, home
from benchmarks.sightings import Sightings
from benchmarks.stats import percentile
from jaas_submit import Client, JobSpec
from jaas_submit.model.wire_names import service_name
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import listener

__all__ = ["PART"]

_PAUSE = 1.5
"""Seconds between two jobs, so that the worker has nothing left to do."""


def _job(seconds: str, node: str = "") -> JobSpec:
    constraints = (f"node.hostname=={node}",) if node else ()
    return JobSpec(image=TEST_IMAGE, command=["sh", "-c", f"sleep {seconds}; echo done"], constraints=constraints)


def _one(client: Client, seen: Sightings, spec: JobSpec) -> tuple[float, float, float]:
    """Run a job; return the milliseconds of submit itself, from submit to the service, and from its end to us."""
    asked = time.time()
    handle = client.submit(spec)
    submitted = time.time()
    handle.wait(120)
    known = time.time()
    service = service_name(handle.id, 1)
    eventually(lambda: service in seen.ended, 20, f"the engine to tell of the end of {service}")
    return (
        1000 * (submitted - asked),
        1000 * (seen.created[service] - asked),
        1000 * (known - seen.ended[service]),
    )


@contextlib.contextmanager
def _busy(client: Client, jobs: int) -> Iterator[None]:
    """Have some jobs run for long meanwhile, so that the worker has something to look after."""
    handles = [client.submit(_job("600")) for _ in range(jobs)]
    eventually(lambda: all(handle.state == "RUNNING" for handle in handles), 120, "the long jobs to run")
    if jobs > 1:
        time.sleep(10.0)  # until the worker does not expect anything of them any more
    try:
        yield
    finally:
        for handle in handles:
            handle.cancel()
        for handle in handles:
            handle.wait(120, check=False)


class _Latency:
    name = "latency"
    title = "Latency on an idle system"
    caveats = (
        "One job at a time, which sleeps for a moment and prints one line; 1.5 s between two of them.",
        "A service counts as created when the engine's event says so, a container as ended when its engine does; "
        "all clocks are one machine's.",
        "The swarm itself passes a task's end on in batches, ten a second: where neither worker nor listener is on the "
        "job's node, 50 ms of the median and 100 ms of the worst case are its own.",
    )

    def run(self, options: Options) -> list[Row]:
        jobs = 2 if options.short else max(options.jobs // 5, 20)
        rows = self._on_node(options, jobs)
        if options.lab:
            first, *others = options.lab
            rows += self._on_each_node(options, jobs, "one worker", [first])
            rows += self._on_each_node(options, jobs, "one worker and two listeners", [first], others)
            rows += self._on_each_node(options, jobs, "a worker on each", options.lab)
        return rows

    @staticmethod
    def _on_node(options: Options, jobs: int) -> list[Row]:
        rows = []
        with home(options) as (made, _), client_of(made) as client, Sightings([options.engine]) as seen:
            _one(client, seen, _job("0"))  # what is done once is done now
            for case, others in (("idle worker", 0), ("5 jobs running beside", 1 if options.short else 5)):
                say(f"bench: latency: {case}, {jobs} jobs")
                with _busy(client, others):
                    found = []
                    for _ in range(jobs):
                        time.sleep(0.1 if options.short else _PAUSE)
                        found.append(_one(client, seen, _job("0.3")))
                rows += _rows(case, found)
        return rows

    @staticmethod
    def _on_each_node(
        options: Options, jobs: int, workers: str, engines: Sequence[str], listening: Sequence[str] = ()
    ) -> list[Row]:
        rows = []
        api = docker.APIClient(base_url=options.lab[0], version="auto")
        nodes = sorted(node["Description"]["Hostname"] for node in api.nodes())
        api.close()
        with contextlib.ExitStack() as stack:
            made, _ = stack.enter_context(home(options, engines[0]))
            client = stack.enter_context(client_of(made))
            seen = stack.enter_context(Sightings(options.lab))
            for engine in engines[1:]:
                made.worker(DOCKER_HOST=engine).start()
            for engine in listening:
                stack.enter_context(listener(made, engine))
            found: dict[str, list[tuple[float, float, float]]] = {node: [] for node in nodes}
            for node in nodes:
                _one(client, seen, _job("0", node))
            say(f"bench: latency: three nodes, {workers}: {jobs} jobs on each")
            for _ in range(jobs):
                for node in nodes:
                    time.sleep(0.1 if options.short else _PAUSE)
                    found[node].append(_one(client, seen, _job("0.3", node)))
        for node in nodes:
            own = " (the worker's)" if len(engines) == 1 and node == nodes[0] else ""
            rows += _rows(f"three nodes, {workers}: job on {node}{own}", found[node])
        return rows


def _rows(case: str, found: list[tuple[float, float, float]]) -> list[Row]:
    submits, created, known = (list(column) for column in zip(*found, strict=True))
    return [
        Row(case, "submit() itself, p50", "ms", percentile(submits, 50), tuple(submits)),
        Row(case, "submit to service created, p50", "ms", percentile(created, 50), tuple(created), Target("<=", 20)),
        Row(case, "submit to service created, p95", "ms", percentile(created, 95)),
        Row(case, "container's end to wait(), p50", "ms", percentile(known, 50), tuple(known), Target("<=", 100)),
        Row(case, "container's end to wait(), p95", "ms", percentile(known, 95), (), Target("<=", 250)),
    ]


PART = _Latency()
