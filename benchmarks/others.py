"""Against what people use instead: the same jobs, the same number at a time, each contestant as its users have it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.bare import SPEC
from benchmarks.contestants import AIRFLOW
from benchmarks.harness import Options, Row, say
from benchmarks.home import home
from benchmarks.machine import descendants, engine_pids, usage
from benchmarks.sightings import Sightings
from benchmarks.stats import Samples, interleave, percentile, ratios
from tests.faults.proxies import EngineProxy, ProxyLoop
from tests.support.wait import eventually
from tests.support.worker import clean_env

__all__ = ["PART", "Counting"]

_REPO = Path(__file__).resolve().parents[1]
_PARALLEL = 10
_COUNTED = 20
"""Jobs in the run in which the engine's API calls are counted."""

_REQUEST = re.compile(rb"(?:GET|POST|DELETE|HEAD|PUT) (/\S*) HTTP/1\.1\r\n")

_NAMES = {
    "jaas": "jaas",
    "shell": "shell loop over `docker service create`",
    "celery": "Celery task that polls (prefork, 10 processes)",
    "airflow": "Airflow's DockerSwarmOperator",
    "go-jaas": "the archived Go tool",
}


class Counting(EngineProxy):
    """An engine's socket that counts the requests that pass through it."""

    def __init__(self, loop: ProxyLoop, target: Path, path: Path) -> None:
        self.calls: Counter[str] = Counter()
        super().__init__(loop, target, path)

    def _from_client(self, pair: object, data: bytes) -> None:  # noqa: ARG002 (the base's signature)
        # A client sends a request's head in one piece, and no body of ours looks like one.
        for target in _REQUEST.findall(data):
            self.calls[re.sub(r"^/v[\d.]+", "", target.decode()).split("?")[0].split("/")[1]] += 1

    @property
    def total(self) -> int:
        """All requests so far."""
        return self.calls.total()


@contextlib.contextmanager
def _counting(engine: str) -> Iterator[Counting]:
    loop = ProxyLoop()
    with tempfile.TemporaryDirectory(prefix="jaas-bench-") as folder:
        proxy = Counting(loop, Path(engine.removeprefix("unix://")), Path(folder) / "docker.sock")
        try:
            yield proxy
        finally:
            loop.close()


class _Peak:
    """Watches the memory of processes and of all below them."""

    def __init__(self, *pids: int) -> None:
        self.bytes = 0
        self._pids = pids
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.bytes = max(self.bytes, usage(*(pid for top in self._pids for pid in descendants(top))).memory)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@contextlib.contextmanager
def _naive_worker(options: Options) -> Iterator[int]:
    """Yield the process id of a prefork worker of the naive task."""
    log = options.out / "naive.log"
    program = f"from benchmarks.naive import worker_main; worker_main(['-c', '{_PARALLEL}', '--loglevel=INFO'])"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=_REPO,
            env=clean_env(JAAS_REDIS_URL=options.redis_url),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: b" ready." in log.read_bytes(), 120, log.read_text)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def _beside(options: Options, name: str, engine: str) -> Iterator[tuple[list[str], list[int]]]:
    """Start what a contestant needs beside its program; yield the program's further arguments, and process ids."""
    if name == "jaas":
        with home(options, engine, max_in_flight=_PARALLEL) as (made, worker):
            yield [made.redis_url, made.prefix], [worker.pid]
    elif name == "celery":
        with _naive_worker(options) as pid:
            yield [options.redis_url], [pid]
    elif name == "airflow":
        yield [SPEC.image, f"ba-{uuid.uuid4().hex[:8]}"], []
    elif name == "go-jaas":
        yield [str(options.go_jaas)], []
    else:
        yield [], []


def _run(options: Options, name: str, engine: str, jobs: int) -> Mapping[str, float]:
    """Run a contestant's jobs and return what they cost."""
    say(f"bench: others: {name}, {jobs} jobs, {_PARALLEL} at once")
    first = [sys.executable, "-m", "benchmarks.contestants", name]
    if name == "airflow":
        first = [str(options.airflow), "-c", AIRFLOW]
    of_engine = engine_pids(options.engine)
    out = options.out / f"{name}.out"
    with (
        Sightings(dict.fromkeys([options.engine, *options.lab])) as seen,
        _beside(options, name, engine) as (more, pids),
    ):
        before = usage(*of_engine, children=True).cpu, usage(*(p for top in pids for p in descendants(top))).cpu
        began = time.time()
        with out.open("wb") as stream:
            process = subprocess.Popen(
                [*first, engine, str(jobs), str(_PARALLEL), *more],
                cwd=_REPO,
                env={**clean_env(), "AIRFLOW_HOME": str(options.out / "airflow")},
                stdout=stream,
            )
        peak = _Peak(process.pid, *pids)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.time() - began
        peak.close()
        if process.returncode:
            raise RuntimeError(f"{name} failed with exit code {process.returncode}; its output is in {out}")
        after = usage(*of_engine, children=True).cpu, usage(*(p for top in pids for p in descendants(top))).cpu
        told = [line.split() for line in out.read_text().splitlines() if line]
        assert len(told) == jobs, f"{name} told of {len(told)} jobs instead of {jobs}"
        services = {service for service, _ in told}
        eventually(lambda: services <= seen.ended.keys(), 30, lambda: f"ends of {services - seen.ended.keys()}")
        late = [1000 * (float(at) - seen.ended[service]) for service, at in told]
    return {
        "seconds": seconds,
        "cpu": 1000 * (used.ru_utime + used.ru_stime + after[1] - before[1]) / jobs,
        "engine": 1000 * (after[0] - before[0]) / jobs,
        "memory": peak.bytes / 2**20,
        "p50": percentile(late, 50),
        "p95": percentile(late, 95),
    }


def _counted(options: Options, name: str, jobs: int) -> Mapping[str, float]:
    """Run a contestant's jobs and return what they cost, and the engine API calls of each."""
    with _counting(options.engine) as proxy:
        found = _run(options, name, f"unix://{proxy.path}", jobs)
        return {**found, "calls": proxy.total / jobs}


class _Others:
    name = "others"
    title = "Against what people use instead"
    caveats = (
        "Ten jobs at a time; each prints a line, which everybody but Airflow's operator reads. Times of the programs "
        "include their start; Airflow's scheduler, which would come on top of its operator, is not there.",
        "Only jaas keeps records, survives a crash of any part, and tells apart why a job failed.",
        "Processor time and memory are those of program and workers with all their processes, not of Redis; memory is "
        "what is not shared. The engine's is dockerd's and containerd's.",
        "API calls are counted in a run of their own, through a proxy.",
    )

    def run(self, options: Options) -> list[Row]:
        names = ["jaas", "shell", "celery"]
        names += ["airflow"] if options.airflow else []
        names += ["go-jaas"] if options.go_jaas else []
        rows = []
        if options.short:  # one run for both
            contestants = {name: partial(_counted, options, name, options.jobs) for name in names}
        else:
            contestants = {name: partial(_run, options, name, options.engine, options.jobs) for name in names}
        samples = interleave(contestants, options.rounds, say)
        for name in names:
            rows += _rows(_NAMES[name], samples[name])
            if not options.short:
                counted = _counted(options, name, min(options.jobs, _COUNTED))
                rows.append(Row(_NAMES[name], "engine API calls per job", "", counted["calls"]))
        return rows + _compared(samples, names[1:])


def _rows(case: str, figures: Mapping[str, list[float]]) -> list[Row]:
    wanted = (
        ("seconds", "wall time", "s"),
        ("p50", "container's end to result, p50", "ms"),
        ("p95", "container's end to result, p95", "ms"),
        ("cpu", "processor time per job", "ms"),
        ("engine", "engine's processor time per job", "ms"),
        ("memory", "memory", "MiB"),
        ("calls", "engine API calls per job", ""),
    )
    return [Row.median(case, title, unit, figures[key]) for key, title, unit in wanted if figures.get(key)]


def _compared(samples: Samples, others: list[str]) -> list[Row]:
    """Return how many times as much as jaas each of the others takes."""
    rows = []
    for name in others:
        case = f"{_NAMES[name]} / jaas"
        for key, title in (
            ("seconds", "wall time"),
            ("p50", "container's end to result, p50"),
            ("cpu", "processor time"),
        ):
            if samples[name].get(key):
                rows.append(Row.median(case, title, "", ratios(samples[name][key], samples["jaas"][key])))
    return rows


PART = _Others()
