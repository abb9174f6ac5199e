"""What following a job's output costs: a job that prints as fast as it can, idle agents, many containers at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import redis

from benchmarks.harness import Options, Row, Target, say
from benchmarks.home import client_of, home
from benchmarks.machine import usage
from benchmarks.own_times import OwnTimes
from benchmarks.sightings import Sightings
from benchmarks.stats import interleave, percentile, ratios
from jaas_submit import Client, JobSpec
from jaas_submit.model.wire_names import service_name
from tests.support.redis_server import OwnRedis
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation, WorkerProcess

__all__ = ["PART"]

_BYTES = 100_000_000
_LINE = "x" * 99
_ROUNDS = 5
_FOLLOWED = 50
"""Containers that print at the same time."""

_WATCHERS = 50
"""Of one job at the same time."""

_BUSY = "i=0; while [ $i -lt {count} ]; do [ $((i % 1000)) -ne 0 ] || echo line $i; i=$((i + 1)); done"
"""A job that needs the processor, and prints a line now and then."""

_FOLLOWED_BYTES = 300_000
"""That each of many containers prints at once: as much as an agent follows however fast it comes."""

_IDLE_S = 60.0
_PAUSE = 0.5

_SLOWER = 1.1
_NO_SLOWER = 1.03
"""What "no slower at all" may come to: room for what two medians of the same differ by."""


@dataclass(frozen=True)
class _Home:
    """An installation of its own: several of them take turns on one engine."""

    made: Installation
    worker: WorkerProcess
    client: Client
    times: OwnTimes


@contextlib.contextmanager
def _home(options: Options, *, agent: bool) -> Iterator[_Home]:
    # An agent reaches an engine at unix:// and tcp:// only; the worker knows a third way of naming the same socket.
    engine = options.engine if agent else options.engine.replace("unix://", "http+unix://", 1)
    with home(options, engine) as (made, worker), client_of(made) as client, OwnTimes(options.engine) as times:
        node = made.swarm.info().node_id
        if agent:
            eventually(lambda: made.ledger.client.exists(f"{made.prefix}:agent:{node}"), 60, "the agent's lease")
        client.submit(_printing(1000)).wait(120)  # what is done once is done now
        yield _Home(made, worker, client, times)


def _printing(size: int) -> JobSpec:
    return JobSpec(image=TEST_IMAGE, command=["sh", "-c", f"yes {_LINE} | head -c {size}"])


@contextlib.contextmanager
def _watching(made: Installation, job_id: str, watchers: int) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that watches a job so many times, from its submission on."""
    command = [sys.executable, "-m", "benchmarks.watchers", job_id, str(watchers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=made.environment())
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _run(where: _Home, spec: JobSpec, *, watchers: int = 0, stopped: int = 0) -> Mapping[str, float]:
    """Run a job, and return what it took.

    Args:
        where: the installation.
        spec: the job.
        watchers: how many watch it.
        stopped: an agent's process that is stopped while the job runs; 0 for none.
    """
    before, began = usage(where.worker.pid).cpu, time.monotonic()
    with contextlib.ExitStack() as stack:
        if stopped:
            os.kill(stopped, signal.SIGSTOP)
            stack.callback(os.kill, stopped, signal.SIGCONT)
        handle = where.client.submit(spec)
        watching = stack.enter_context(_watching(where.made, handle.id, watchers)) if watchers else None
        handle.wait(600)
        found = {"result": time.monotonic() - began, "cpu": usage(where.worker.pid).cpu - before}
        if watching:
            told, _ = watching.communicate(timeout=600)
            found["watcher"] = time.monotonic() - began
            found["whole"] = float(told or 0)
    found["container"] = where.times.of(service_name(handle.id, 1))
    return found


def _fast_job(options: Options, bare: _Home, own: _Home, apart: _Home, agent: int) -> list[Row]:
    spec = _printing(1_000_000 if options.short else _BYTES)
    ways = {
        "without an agent": partial(_run, bare, spec),
        "with an agent, nobody watches": partial(_run, own, spec),
        "with an agent, watched": partial(_run, own, spec, watchers=1),
        "with an agent that is stopped": partial(_run, apart, spec, stopped=agent),
    }
    samples = interleave(ways, 1 if options.short else max(options.rounds, _ROUNDS), say)
    without, alone, watched, stopped = ways
    rows = []
    for name in ways:
        rows.append(Row.median(name, "container's own time", "s", samples[name]["container"]))
        if name != stopped:  # its worker waits for the agent
            rows.append(Row.median(name, "submit to result", "s", samples[name]["result"]))
            rows.append(Row.median(name, "worker's processor time", "s", samples[name]["cpu"]))
    rows.append(Row.median(watched, "submit to the watcher's end", "s", samples[watched]["watcher"]))
    for name, figures in ((alone, ("container", "result")), (stopped, ("container",)), (watched, ("container",))):
        for figure in figures:
            what = "container's own time" if figure == "container" else "submit to result"
            found = ratios(samples[name][figure], samples[without][figure])
            most = _NO_SLOWER if name == stopped else _SLOWER
            rows.append(Row.median(f"{name} / {without}", what, "", found, Target("<=", most)))
    return rows


def _many_watchers(options: Options, own: _Home) -> list[Row]:
    watchers = 2 if options.short else _WATCHERS
    spec = JobSpec(image=TEST_IMAGE, command=["sh", "-c", _BUSY.format(count=50_000 if options.short else 1_000_000)])
    names = f"{watchers} watchers", "nobody watches"
    ways = {names[0]: partial(_run, own, spec, watchers=watchers), names[1]: partial(_run, own, spec)}
    samples = interleave(ways, 1 if options.short else 3, say)
    found = ratios(samples[names[0]]["container"], samples[names[1]]["container"])
    return [
        Row.median(names[0], "that got every byte", "", samples[names[0]]["whole"], Target(">=", watchers)),
        Row.median(f"{names[0]} / {names[1]}", "container's own time", "", found),
    ]


def _latency(options: Options, bare: _Home, own: _Home) -> list[Row]:
    jobs, rows = 2 if options.short else 20, []
    for case, where in (("with an agent", own), ("without an agent", bare)):
        say(f"bench: output: latency {case}, {jobs} jobs")
        found = []
        with Sightings([options.engine]) as seen:
            for _ in range(jobs):
                time.sleep(0.1 if options.short else _PAUSE)
                found.append(_end_to_result(where.client, seen))
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
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)


def _idle(options: Options) -> list[Row]:
    """Measure an agent that has a Redis of its own, so that all commands there are its own."""
    watched = 10.0 if options.short else _IDLE_S
    prefix = f"b-{uuid.uuid4().hex[:8]}"
    server = OwnRedis(options.out / "idle-redis").start()
    made = Installation(server.url, options.engine, prefix, options.out)
    try:
        with _agent(made, options) as pid, server.client() as client:
            say(f"bench: output: an idle agent, {watched:.0f} s")
            time.sleep(5.0)  # what it does once is done now
            first, cpu = _commands(client), usage(pid).cpu
            time.sleep(watched)
            commands, idle = _commands(client) - first - 1, usage(pid)  # one is this measurement's
    finally:
        made.close()
        server.stop()
    return [
        Row("idle agent", "memory", "MiB", idle.memory / 2**20, (), Target("<=", 50)),
        Row("idle agent", "Redis commands", "a second", commands / watched, (), Target("<=", 1)),
        Row("idle agent", "cores", "", (idle.cpu - cpu) / watched),
    ]


def _many(options: Options, where: _Home, pid: int) -> list[Row]:
    containers = 2 if options.short else _FOLLOWED
    for first in [where.client.submit(_printing(_FOLLOWED_BYTES)) for _ in range(4)]:
        first.wait(120)  # what the first ones take is taken now
    before = usage(pid)
    say(f"bench: output: {containers} containers that print {_FOLLOWED_BYTES:,} bytes each, and go on")
    script = f"trap exit TERM; yes {_LINE} | head -c {_FOLLOWED_BYTES}; while :; do echo more; sleep 1; done"
    handles = [where.client.submit(JobSpec(image=TEST_IMAGE, command=["sh", "-c", script])) for _ in range(containers)]
    try:
        eventually(lambda: all(handle.state == "RUNNING" for handle in handles), 300, "all of them to run")
        time.sleep(1.0 if options.short else 5.0)
        busy = usage(pid)
    finally:
        for handle in handles:
            handle.cancel()
        for handle in handles:
            handle.wait(300, check=False)
    case = f"{containers} containers that print"
    each = (busy.memory - before.memory) / containers / 1024
    return [
        Row(case, "memory for each", "KiB", each, (), Target("<=", 256)),
        Row(case, "threads more", "", busy.threads - before.threads, (), Target("<=", 0)),
    ]


class _Output:
    name = "output"
    title = "Following output"
    caveats = (
        "The job prints lines of 100 bytes, 100 MB in all, as fast as it can. Engine, worker, agent and watchers share "
        "the machine's processors.",
        "Without an agent the worker reads the output after the container's exit, for JAAS_LOG_TIMEOUT at most.",
        "A container's own time is from StartedAt to FinishedAt, as its engine says. Ratios are those of one round.",
        "An idle agent has a Redis of its own, whose count has each command of a script, too.",
    )

    def run(self, options: Options) -> list[Row]:
        with contextlib.ExitStack() as stack:
            bare = stack.enter_context(_home(options, agent=False))
            own = stack.enter_context(_home(options, agent=True))
            apart = stack.enter_context(_home(options, agent=False))
            agent = stack.enter_context(_agent(apart.made, options))
            return [
                *_idle(options),
                *_many(options, apart, agent),
                *_latency(options, bare, own),
                *_many_watchers(options, own),
                *_fast_job(options, bare, own, apart, agent),
            ]


PART = _Output()
