"""Against the limit: jaas beside a bare loop over the engine's API, with the same jobs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import docker
import redis

from benchmarks.bare import SPEC
from benchmarks.harness import Options, Row, Target, say
from benchmarks.home import client_of, home
from benchmarks.machine import busy, engine_pids, usage
from benchmarks.plots import curve
from benchmarks.stats import interleave, ratios
from jaas_submit import JobSpec
from jaas_submit.model.wire_names import LABEL_PREFIX
from jaas_worker.swarm.create_or_adopt import create_or_adopt
from jaas_worker.swarm.docker_engine import Swarm
from jaas_worker.swarm.responses import tasks_in
from tests.support.engine_http import serving
from tests.support.fake_swarm import FakeSwarm
from tests.support.wait import eventually

__all__ = ["PART"]

_REPO = Path(__file__).resolve().parents[1]
_PARALLEL = 10
_AT_ONCE = (1, 2, 4, 7, 10, 14, 20, 40)
"""Points of the curve: services that exist at once."""


def _redis(url: str) -> tuple[float, float]:
    """Return Redis' processor time, and how many commands it has carried out; those in scripts count."""
    with redis.Redis.from_url(url) as client:
        cpu: dict[str, Any] = client.info("cpu")
        stats: dict[str, Any] = client.info("stats")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]), float(stats["total_commands_processed"])


def _raft_index(engine: str) -> float:
    """Return how many writes the raft log of the swarm has seen: the index that a new object gets."""
    api: Any = docker.APIClient(base_url=engine, version="auto")
    try:
        made = api.create_config(f"bench-{uuid.uuid4().hex[:12]}", b"x")["ID"]
        index = api.inspect_config(made)["Version"]["Index"]
        api.remove_config(made)
    finally:
        api.close()
    return float(index)


def _figures(jobs: int, seconds: float, engine: float, manager: float, server: float) -> dict[str, float]:
    per_job = 1000 / jobs
    return {
        "throughput": jobs / seconds,
        "engine": engine * per_job,
        "manager": (engine + manager) * per_job,
        "process": manager * per_job,
        "redis": server * per_job,
    }


def _bare(options: Options, jobs: int, parallel: int) -> Mapping[str, float]:
    say(f"bench: limit: bare loop, {jobs} jobs, {parallel} at once")
    pids = engine_pids(options.engine)
    before, writes, machine = usage(*pids, children=True).cpu, _raft_index(options.engine), busy()
    command = [sys.executable, "-m", "benchmarks.bare", options.engine, str(jobs), str(parallel)]
    done = subprocess.run(command, cwd=_REPO, capture_output=True, text=True, check=False, timeout=3600)
    if done.returncode:
        raise RuntimeError(f"the bare loop failed:\n{done.stderr}")
    found = json.loads(done.stdout)
    figures = _figures(jobs, found["seconds"], usage(*pids, children=True).cpu - before, found["cpu"], 0.0)
    return {**figures, **_machine(machine, jobs), "writes": (_raft_index(options.engine) - writes) / jobs}


def _machine(before: tuple[float, float], jobs: int) -> dict[str, float]:
    """Return what part of the machine was in use since then, in percent, and its processor time for each job."""
    worked, everything = (now - then for now, then in zip(busy(), before, strict=True))
    return {"busy": 100 * worked / everything, "machine": 1000 * worked / jobs}


def _jaas(options: Options, jobs: int, max_in_flight: int = 1000) -> Mapping[str, float]:
    say(f"bench: limit: jaas, {jobs} jobs, {max_in_flight} in flight at most")
    pids = engine_pids(options.engine)
    with home(options, max_in_flight=max_in_flight) as (made, worker), client_of(made) as client:
        writes = _raft_index(options.engine)
        before = usage(*pids, children=True).cpu, usage(worker.pid).cpu, *_redis(options.redis_url)
        began, machine = time.monotonic(), busy()
        for handle in client.submit_many([SPEC] * jobs):
            handle.wait(3600)
        seconds, whole = time.monotonic() - began, _machine(machine, jobs)
        told = eventually(lambda: [about for about in made.ledger.queries.workers() if "window" in about], 30)
        while made.services():  # looked at seldom: the engine's time for it would count as jaas'
            time.sleep(1.0)
        after = usage(*pids, children=True).cpu, usage(worker.pid).cpu, *_redis(options.redis_url)
    writes = _raft_index(options.engine) - writes
    engine, process, server, commands = (b - a for a, b in zip(before, after, strict=True))
    found = _figures(jobs, seconds, engine, process, server)
    return {**found, **whole, "commands": commands / jobs, "writes": writes / jobs, "window": told[0]["window"]}


def _costs(options: Options, what: str, count: int, ways: Mapping[str, Callable[[], object]]) -> list[Row]:
    """Return the processor time that two ways of doing the same take."""

    def cost(call: Callable[[], object]) -> Mapping[str, float]:
        call()  # the connection is made
        began = time.process_time()
        for _ in range(count):
            call()
        return {"cpu": 1000 * (time.process_time() - began) / count}

    samples = interleave({name: partial(cost, call) for name, call in ways.items()}, max(options.rounds, 3), say)
    one, other = ways
    return [
        *(Row.median(name, what, "ms", samples[name]["cpu"]) for name in ways),
        Row.median(f"{one} / {other}", what, "", ratios(samples[one]["cpu"], samples[other]["cpu"])),
    ]


def _reading(options: Options) -> list[Row]:
    """Return what it costs to read a list of a thousand pending tasks."""
    spec = JobSpec(image=SPEC.image, command=SPEC.command, constraints=("node.labels.bench==nowhere",))
    engine = FakeSwarm()
    for number in range(10 if options.short else 1000):
        create_or_adopt(engine, spec, f"job{number}", 1, {LABEL_PREFIX: "bench"})
    with serving(engine, str(options.out / "reading.sock")) as host:
        api: Any = docker.APIClient(base_url=host, version="auto")
        answer = json.dumps(api.tasks(filters={"label": [f"{LABEL_PREFIX}=bench"]})).encode()
        api.close()
    engine.close()
    ways = {"json.loads": lambda: json.loads(answer), "jaas": lambda: tasks_in(answer)}
    return _costs(options, "processor time of reading 1,000 tasks", 5, ways)


def _calls(options: Options) -> list[Row]:
    """Return what a look at ended tasks costs its caller: through docker-py, and as jaas does it."""
    swarm = Swarm(options.engine)
    api: Any = docker.APIClient(base_url=options.engine, version="auto")
    filters = {"label": [LABEL_PREFIX], "desired-state": ["shutdown"]}
    ways = {"docker-py": lambda: api.tasks(filters=filters), "jaas": lambda: swarm.ended_tasks(LABEL_PREFIX)}
    rows = _costs(options, "processor time of a look at ended tasks", 10 if options.short else 200, ways)
    api.close()
    return rows


class _Limit:
    name = "limit"
    title = "Against the limit: a bare loop over the engine's API"
    caveats = (
        "The bare loop creates, polls all of its services with one call every 0.1 s, and removes; it keeps no record, "
        "reads no output and survives nothing.",
        "Manager: the engine's processor time (dockerd and containerd with the children they waited for, not the "
        "containers' shims) and the loop's or the worker's own. Redis' is a line of its own.",
        "jaas' time ends when the producer knows the last result, the loop's when the last service is removed; the "
        "processor time of removing counts for both.",
    )

    def run(self, options: Options) -> list[Row]:
        jobs = options.jobs
        bounded = interleave(
            {
                "bare": partial(_bare, options, jobs, _PARALLEL),
                "jaas": partial(_jaas, options, jobs, max_in_flight=_PARALLEL),
            },
            options.rounds,
            say,
        )
        at_once = interleave(
            {"bare": partial(_bare, options, jobs, jobs), "jaas": partial(_jaas, options, jobs)}, options.rounds, say
        )
        rows = []
        for samples, what in ((bounded, f"{jobs} jobs, {_PARALLEL} in parallel"), (at_once, f"{jobs} jobs at once")):
            for name in ("bare", "jaas"):
                case = f"{name}, {what}"
                rows.append(Row.median(case, "throughput", "jobs/s", samples[name]["throughput"]))
                if all(samples[name]["engine"]):  # else its processes are not on this machine, or not ours to see
                    rows += [
                        Row.median(case, "manager's processor time per job", "ms", samples[name]["manager"]),
                        Row.median(case, "of it the engine's", "ms", samples[name]["engine"]),
                    ]
                own = "of it the loop's" if name == "bare" else "of it the worker's"
                rows += [
                    Row.median(case, own, "ms", samples[name]["process"]),
                    Row.median(case, "the whole machine's processor time per job", "ms", samples[name]["machine"]),
                    Row.median(case, "processors in use", "%", samples[name]["busy"]),
                ]
            rows += [
                Row.median(f"jaas, {what}", "Redis' processor time per job", "ms", samples["jaas"]["redis"]),
                Row.median(f"jaas, {what}", "Redis' commands per job", "", samples["jaas"]["commands"]),
                Row.median(f"jaas, {what}", "raft writes per job", "", samples["jaas"]["writes"]),
                Row.median(f"jaas, {what}", "launch window at the end", "services", samples["jaas"]["window"]),
            ]
        rows += _ratios(bounded, f"jaas / bare, {jobs} jobs, {_PARALLEL} in parallel", 0.95)
        rows += _ratios(at_once, f"jaas / bare, {jobs} jobs at once", 1.3)
        return rows + self._curve(options) + _calls(options) + _reading(options)

    @staticmethod
    def _curve(options: Options) -> list[Row]:
        """Return the engine's start rate against how many services exist at once, with one round for each."""
        points = []
        for parallel in (2,) if options.short else _AT_ONCE:
            jobs = options.jobs if options.short else max(3 * parallel, min(40, options.jobs))
            points.append((float(parallel), _bare(options, jobs, parallel)["throughput"]))
        curve(
            options.out / "start-rate.svg",
            "What one engine starts",
            "services that exist at once",
            "jobs per second",
            {"bare loop": points},
        )
        return [Row(f"bare, {parallel:.0f} at once", "throughput", "jobs/s", rate) for parallel, rate in points]


def _ratios(samples: dict[str, dict[str, list[float]]], case: str, throughput: float) -> list[Row]:
    bare, jaas = samples["bare"], samples["jaas"]
    rows = [
        Row.median(case, "throughput", "", ratios(jaas["throughput"], bare["throughput"]), Target(">=", throughput))
    ]
    if all(bare["engine"]):
        found = ratios(jaas["manager"], bare["manager"])
        rows.append(Row.median(case, "manager's processor time per job", "", found, Target("<=", 1.1)))
    return rows


PART = _Limit()
