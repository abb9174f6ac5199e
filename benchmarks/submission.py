"""Submission: how many jobs one process enqueues a second, what a million that wait cost, and whom they disturb."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator

import redis

from benchmarks.harness import Options, Row, Target, say
from benchmarks.home import client_of
from benchmarks.machine import usage
from benchmarks.simulator import simulator
from jaas_submit import Client, JobSpec
from jaas_submit.states import JobState
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation

__all__ = ["PART"]

_WAITING = 1_000_000
_SMALL = JobSpec(image=TEST_IMAGE, command=["true"])
_LARGER = JobSpec(
    image="registry.example/team/import:1.4",
    command=["import", "--day", "2026-11-25", "--region", "eu-central"],
    env={"TARGET": "warehouse", "LEVEL": "info"},
    limits={"memory": "256M", "cpus": 0.5},
    run_timeout="10m",
)


def _memory(client: Client) -> int:
    return int(client.ledger.client.info("memory")["used_memory"])


def _many(spec: JobSpec, count: int) -> Iterator[JobSpec]:
    return itertools.repeat(spec, count)


class _Submission:
    name = "submission"
    title = "Submission, and a long queue"
    caveats = (
        "One process, one connection, Redis on the same machine. A bulk is submit_many in calls of 5,000 jobs.",
        "Bytes are what Redis' used_memory grew by: record, indexes and message.",
        "The worker that starts beside a long queue runs against a simulated engine, and takes the oldest job.",
    )

    def run(self, options: Options) -> list[Row]:
        """Measure on a Redis of the benchmarks alone."""
        waiting = 50 if options.short else _WAITING
        with redis.Redis.from_url(options.redis_url) as server:
            return [*self._rates(options), *self._long_queue(options, waiting, server)]

    @staticmethod
    def _rates(options: Options) -> list[Row]:
        bulk, single = (50, 1) if options.short else (50_000, 2_000)
        made = _installation(options)
        with client_of(made) as client:
            client.submit_many(_many(_SMALL, 100))
            rows = []
            for name, spec in (("small", _SMALL), ("larger", _LARGER)):
                say(f"bench: submission: {bulk} {name} descriptions")
                before, rates = _memory(client), []
                for _ in range(max(bulk // 5000, 1)):
                    count = min(bulk, 5000)
                    started = time.perf_counter()
                    client.submit_many(_many(spec, count))
                    rates.append(count / (time.perf_counter() - started))
                size = (_memory(client) - before) / bulk
                length = len(spec.to_json())
                case = f"{name} description ({length} bytes of JSON)"
                rows += [
                    Row.median(case, "in bulk", "jobs/s", rates, Target(">=", 5000)),
                    Row(
                        case,
                        "Redis' memory per job that waits",
                        "bytes",
                        size,
                        target=Target("<=", 1500) if spec is _SMALL else None,
                    ),
                ]
            rates = []
            for _ in range(5):
                started = time.perf_counter()
                for _ in range(single):
                    client.submit(_SMALL)
                rates.append(single / (time.perf_counter() - started))
            rows.append(Row.median("small description", "one by one", "jobs/s", rates, Target(">=", 1000)))
        _forget(made)
        return rows

    @staticmethod
    def _long_queue(options: Options, waiting: int, server: redis.Redis) -> list[Row]:
        rows = []
        seconds: dict[int, float] = {}
        for count in (0, waiting):
            made = _installation(options, max_in_flight=1)
            case = f"{count:,} jobs wait"
            with simulator(options.out, nodes=3) as (host, _), client_of(made) as client:
                made.engine_host = host
                say(f"bench: submission: {case}")
                before = _memory(client)
                first = client.submit(_SMALL)
                second = client.submit(JobSpec(image=TEST_IMAGE, command=["sleep", "3600"]))
                for start in range(0, count, 50_000):
                    client.submit_many(_many(_SMALL, min(50_000, count - start)))
                if count:
                    rows.append(
                        Row(
                            case,
                            "Redis' memory per job",
                            "bytes",
                            (_memory(client) - before) / count,
                            (),
                            Target("<=", 1500),
                        )
                    )
                began = time.monotonic()
                worker = made.worker(made.prefix)
                worker.start()
                ready = time.monotonic() - began
                first.wait(600)
                seconds[count] = time.monotonic() - began
                eventually(lambda: second.state is JobState.RUNNING, 120, "the job that lasts to run")  # noqa: B023 - at once
                quiet = 1.0 if options.short else 60.0
                cpu, redis_before, began = usage(worker.pid).cpu, server.info("cpu"), time.monotonic()
                time.sleep(quiet)
                watched = time.monotonic() - began
                cores = (usage(worker.pid).cpu - cpu) / watched
                redis_after = server.info("cpu")
                used = sum(redis_after[n] - redis_before[n] for n in ("used_cpu_user", "used_cpu_sys")) / watched
                rows += [
                    Row(case, "worker's start until it takes jobs", "s", ready),
                    Row(case, "worker's start until the first job is done", "s", seconds[count]),
                    Row(case, "cores of the worker, which has no room for more", "", cores),
                    Row(case, "cores of Redis meanwhile", "", used),
                ]
                worker.kill()
            _forget(made)
        ratio = seconds[waiting] / seconds[0]
        rows.append(
            Row("a long queue", "first job done, as a multiple of an empty queue's", "", ratio, (), Target("<=", 1.2))
        )
        return rows


def _installation(options: Options, **settings: object) -> Installation:
    return Installation(options.redis_url, options.engine, f"b-{uuid.uuid4().hex[:8]}", options.out, **settings)


def _forget(made: Installation) -> None:
    """Delete the installation's keys."""
    client = made.ledger.client
    keys = client.scan_iter(f"{made.prefix}*", count=5000)
    while some := list(itertools.islice(keys, 5000)):
        client.unlink(*some)
    client.close()


PART = _Submission()
