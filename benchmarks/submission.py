"""Submission: how many jobs one process enqueues a second, what a million that wait cost, and whom they disturb."""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from collections.abc import Iterator

import redis

from benchmarks.harness import Options, Row, Target, say
from benchmarks.home import client_of
from benchmarks.machine import usage
from benchmarks.simulator import simulator
from benchmarks.stats import ratios, turns
from jaas_submit import Client, JobHandle, JobSpec
from jaas_submit.model.states import JobState
from jaas_submit.signing import Signer, read_signing_key
from jaas_submit.signing.keys import new_pair
from tests.support.wait import eventually
from tests.support.witness import TEST_IMAGE
from tests.support.worker import Installation

__all__ = ["PART"]

_WAITING = 1_000_000
_ROOM = 2
"""Jobs in flight: one that the worker before has left behind must not keep the first one waiting."""

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
        "Workers that start beside an empty and a long queue, in turns, run against a simulated engine.",
    )

    def run(self, options: Options) -> list[Row]:
        """Measure on a Redis of the benchmarks alone."""
        waiting = 50 if options.short else _WAITING
        with redis.Redis.from_url(options.redis_url) as server:
            return [*self._rates(options), *self._signed(options), *self._long_queue(options, waiting, server)]

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
    def _signed(options: Options) -> list[Row]:
        """Submit in bulk with and without signatures, in turns."""
        count, rounds = (50, 1) if options.short else (2_000, 15)
        made = _installation(options)
        keys = {
            "HS256": read_signing_key("a secret of the benchmarks, no secret"),
            "EdDSA": read_signing_key(new_pair()[0]),
        }
        signers = {"": None, **{name: Signer(key, "bench", made.prefix) for name, key in keys.items()}}
        rates: dict[str, list[float]] = {name: [] for name in signers}
        say(f"bench: submission: {rounds} times {count} jobs, unsigned and signed")
        with contextlib.ExitStack() as stack:
            clients = {
                name: stack.enter_context(Client(made.redis_url, queue=made.queue, prefix=made.prefix, signer=signer))
                for name, signer in signers.items()
            }
            for number in range(rounds):
                for name in turns(list(clients), number):
                    started = time.perf_counter()
                    clients[name].submit_many(_many(_SMALL, count))
                    rates[name].append(count / (time.perf_counter() - started))
        _forget(made)
        what = "in bulk, as a part of the unsigned rate"
        return [
            Row.median(f"signed, {name}", what, "", ratios(rates[name], rates[""]), Target(">=", 0.8)) for name in keys
        ]

    @staticmethod
    def _long_queue(options: Options, waiting: int, server: redis.Redis) -> list[Row]:
        """Start a worker beside an empty and a long queue, in turns."""
        rows: list[Row] = []
        with contextlib.ExitStack() as stack:
            host, _ = stack.enter_context(simulator(options.out, nodes=3))
            queues = []
            for count in (0, waiting):
                made = _installation(options, max_in_flight=_ROOM)
                made.engine_host = host
                stack.callback(made.close)
                client = stack.enter_context(client_of(made))
                say(f"bench: submission: {count:,} jobs wait")
                queue = _Queue(made, client, f"{count:,} jobs wait")
                before = _memory(client)
                for start in range(0, count, 50_000):
                    client.submit_many(_many(_SMALL, min(50_000, count - start)))
                if count:
                    size = (_memory(client) - before) / count
                    rows.append(Row(queue.case, "Redis' memory per job", "bytes", size, (), Target("<=", 1500)))
                queues.append(queue)
            empty, long = queues
            for _ in range(1 if options.short else max(options.rounds, 3)):
                for queue in queues:
                    queue.start()
            for queue in queues:
                rows += [
                    Row.median(queue.case, "worker's start until it takes jobs", "s", queue.ready),
                    Row.median(queue.case, "worker's start until the first job is done", "s", queue.done),
                    *queue.idle(server, 1.0 if options.short else 60.0),
                ]
                _forget(queue.made)
        what = "first job done, as a multiple of an empty queue's"
        return [*rows, Row.median("a long queue", what, "", ratios(long.done, empty.done), Target("<=", 1.2))]


class _Queue:
    """A queue beside which a worker is started, several times.

    Args:
        made: the installation.
        client: of it.
        case: for the table.
    """

    def __init__(self, made: Installation, client: Client, case: str) -> None:
        self.made = made
        self.client = client
        self.case = case
        self.ready: list[float] = []
        self.done: list[float] = []

    def start(self) -> None:
        """Start a worker, note when it takes jobs and when it has done the first in the queue, and stop it."""
        first = self._submit_first(_SMALL)
        began = time.monotonic()
        worker = self.made.worker(f"{self.made.prefix}-{len(self.ready)}").start()
        self.ready.append(time.monotonic() - began)
        first.wait(600)
        self.done.append(time.monotonic() - began)
        worker.stop()

    def _submit_first(self, spec: JobSpec) -> JobHandle:
        """Submit a job whose message is taken before all others: it is the queue's last entry."""
        handle = self.client.submit(spec)
        self.client.ledger.client.lmove(self.made.queue, self.made.queue, "LEFT", "RIGHT")
        return handle

    def idle(self, server: redis.Redis, quiet: float) -> list[Row]:
        """Watch a worker that has no room for more jobs.

        Args:
            server: the Redis.
            quiet: seconds to watch for.
        """
        asleep = [self._submit_first(JobSpec(image=TEST_IMAGE, command=["sleep", "3600"])) for _ in range(_ROOM)]
        worker = self.made.worker(f"{self.made.prefix}-idle").start()
        eventually(lambda: all(one.state is JobState.RUNNING for one in asleep), 120, "the jobs that last to run")
        cpu, before, began = usage(worker.pid).cpu, server.info("cpu"), time.monotonic()
        time.sleep(quiet)
        watched = time.monotonic() - began
        cores = (usage(worker.pid).cpu - cpu) / watched
        after = server.info("cpu")
        used = sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys")) / watched
        worker.kill()
        return [
            Row(self.case, "cores of the worker, which has no room for more", "", cores),
            Row(self.case, "cores of Redis meanwhile", "", used),
        ]


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
