"""What following a job's output costs: a job that prints as fast as it can, idle agents, many containers at once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial

import redis

from benchmarks.harness import Options, Row, Target, say
from benchmarks.home import client_of, home
from benchmarks.machine import usage
from benchmarks.sightings import Sightings
from benchmarks.stats import interleave, percentile, ratios
from jaas_submit import Client, JobSpec
from jaas_submit.model.wire_names import service_name
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation, WorkerProcess

__all__ = ["PART"]

_BYTES = 100_000_000
_LINE = "x" * 99
_ROUNDS = 5
_FOLLOWED = 50
"""Containers that print at the same time."""

_IDLE_S = 60.0
_PAUSE = 1.5


@contextlib.contextmanager
def _installation(options: Options, *, agent: bool) -> Iterator[tuple[Installation, WorkerProcess]]:
    # An agent reaches an engine at unix:// and tcp:// only; the worker knows a third way of naming the same socket.
    engine = options.engine if agent else options.engine.replace("unix://", "http+unix://", 1)
    with home(options, engine) as (made, worker):
        node = made.swarm.info().node_id
        if agent:
            eventually(lambda: made.ledger.client.exists(f"{made.prefix}:agent:{node}"), 60, "the agent's lease")
        yield made, worker


def _printing(size: int) -> JobSpec:
    return JobSpec(image=TEST_IMAGE, command=["sh", "-c", f"yes {_LINE} | head -c {size}"])


def _run(options: Options, *, agent: bool, watched: bool) -> Mapping[str, float]:
    size = 1_000_000 if options.short else _BYTES
    with _installation(options, agent=agent) as (made, worker), client_of(made) as client:
        client.submit(_printing(1000)).wait(120)  # what is done once is done now
        before = usage(worker.pid).cpu
        began = time.monotonic()
        handle = client.submit(_printing(size))
        watcher = None
        if watched:
            command = [sys.executable, "-m", "jaas_submit.cli.main", "logs", "-f", handle.id]
            watcher = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=made.environment()
            )
        try:
            result = handle.wait(600)
            seconds = time.monotonic() - began
            last = seconds
            if watcher:
                watcher.wait(600)
                last = time.monotonic() - began
        finally:
            if watcher:
                watcher.kill()
                watcher.wait()
        assert result.started_at
        assert result.finished_at
        return {
            "result": seconds,
            "container": (result.finished_at - result.started_at).total_seconds(),
            "watcher": last,
            "cpu": usage(worker.pid).cpu - before,
        }


def _fast_job(options: Options) -> list[Row]:
    ways = {
        "without an agent": partial(_run, options, agent=False, watched=False),
        "with an agent, nobody watches": partial(_run, options, agent=True, watched=False),
        "with an agent, watched": partial(_run, options, agent=True, watched=True),
    }
    samples = interleave(ways, 1 if options.short else max(options.rounds, _ROUNDS), say)
    without, *others = ways
    rows = []
    for name in ways:
        rows += [
            Row.median(name, "submit to result", "s", samples[name]["result"]),
            Row.median(name, "container's own time", "s", samples[name]["container"]),
            Row.median(name, "worker's processor time", "s", samples[name]["cpu"]),
        ]
    rows.append(Row.median(others[-1], "submit to the watcher's end", "s", samples[others[-1]]["watcher"]))
    for name in others:
        for figure, what in (("container", "container's own time"), ("result", "submit to result")):
            found = ratios(samples[name][figure], samples[without][figure])
            rows.append(Row.median(f"{name} / {without}", what, "", found, Target("<=", 1.1)))
    return rows


def _latency(options: Options) -> list[Row]:
    jobs, rows = 2 if options.short else 20, []
    for agent in (True, False):
        case = "with an agent" if agent else "without an agent"
        say(f"bench: output: latency {case}, {jobs} jobs")
        found = []
        with (
            _installation(options, agent=agent) as (made, _),
            client_of(made) as client,
            Sightings([options.engine]) as seen,
        ):
            for _ in range(jobs):
                time.sleep(0.1 if options.short else _PAUSE)
                found.append(_end_to_result(client, seen))
        rows += [
            Row(case, "container's end to wait(), p50", "ms", percentile(found, 50), tuple(found)),
            Row(case, "container's end to wait(), p95", "ms", percentile(found, 95)),
        ]
    return rows


def _end_to_result(client: Client, seen: Sightings) -> float:
    handle = client.submit(JobSpec(image=TEST_IMAGE, command=["sh", "-c", "sleep 0.3; echo done"]))
    handle.wait(120)
    known, service = time.time(), service_name(handle.id, 1)
    eventually(lambda: service in seen.ended, 20, f"the engine to tell of the end of {service}")
    return 1000 * (known - seen.ended[service])


def _commands(server: redis.Redis) -> int:
    found = server.info("stats")
    return int(found["total_commands_processed"])


@contextlib.contextmanager
def _agent(made: Installation, options: Options) -> Iterator[int]:
    """Yield the process id of an agent alone, which follows the node."""
    with (options.out / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jaas_submit.cli.main", "agent"],
            env=made.environment(DOCKER_HOST=options.engine),
            stdout=log,
            stderr=log,
        )
    try:
        key = f"{made.prefix}:agent:{made.swarm.info().node_id}"
        eventually(lambda: made.ledger.client.exists(key), 60, "the agent's lease")
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _idle_and_many(options: Options) -> list[Row]:
    containers, size = (2, 100_000) if options.short else (_FOLLOWED, 3_000_000)
    watched = 1.0 if options.short else _IDLE_S
    with _installation(options, agent=False) as (made, _), _agent(made, options) as pid, client_of(made) as client:
        server = made.ledger.client
        say(f"bench: output: an idle agent, {watched:.0f} s")
        first, cpu = _commands(server), usage(pid).cpu
        time.sleep(watched)
        with_agent, cpu, idle = _commands(server) - first, usage(pid).cpu - cpu, usage(pid)
        say(f"bench: output: {containers} containers that print {size:,} bytes each, and go on")
        go_on = f"yes {_LINE} | head -c {size}; while :; do echo more; sleep 1; done"
        job = JobSpec(image=TEST_IMAGE, command=["sh", "-c", go_on])
        handles = [client.submit(job) for _ in range(containers)]
        try:
            eventually(lambda: all(handle.state == "RUNNING" for handle in handles), 300, "all of them to run")
            time.sleep(1.0 if options.short else 20.0)  # all that they print at first has been read
            busy = usage(pid)
        finally:
            for handle in handles:
                handle.cancel()
            for handle in handles:
                handle.wait(300, check=False)
    with _installation(options, agent=False) as (made, _):
        first = _commands(made.ledger.client)
        time.sleep(watched)
        without = _commands(made.ledger.client) - first
    case = f"{containers} containers that print"
    each = (busy.memory - idle.memory) / containers / 1024
    return [
        Row("idle agent", "memory", "MiB", idle.memory / 2**20, (), Target("<=", 50)),
        Row("idle agent", "Redis commands", "a second", max(with_agent - without, 0) / watched, (), Target("<=", 1)),
        Row("idle agent", "cores", "", cpu / watched),
        Row(case, "memory for each", "KiB", each, (), Target("<=", 256)),
        Row(case, "threads more", "", busy.threads - idle.threads, (), Target("<=", 0)),
    ]


class _Output:
    name = "output"
    title = "Following output"
    caveats = (
        "The job prints lines of 100 bytes, 100 MB in all, as fast as it can. Engine, worker, agent and watcher share "
        "the machine's processors.",
        "Without an agent the worker reads first and last bytes after the container's exit.",
        "An idle agent's commands are those of a worker and an agent, less those of a worker alone.",
    )

    def run(self, options: Options) -> list[Row]:
        return [*_fast_job(options), *_latency(options), *_idle_and_many(options)]


PART = _Output()
